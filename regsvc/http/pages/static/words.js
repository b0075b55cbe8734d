// The page's texts, which the server leaves in it in the reader's language.
export const words = JSON.parse(document.getElementById("words").textContent);
const language = document.documentElement.lang;

export const fill = (text, values) => text.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);

export const sayMoment = (text) =>
  new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(new Date(text));

export const sayTime = (text) =>
  new Intl.DateTimeFormat(language, { timeStyle: "medium" }).format(new Date(text));
