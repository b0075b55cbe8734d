// Shows how long a password would hold, and the password itself to whoever wants to see it.
import { words } from "./words.js";

const by = (id) => document.getElementById(id);

export function showStrength(score) {
  by("strength").hidden = score === null;
  if (score === null) return;
  by("strength").dataset.score = score;
  const text = words.signup[`strength_${score}`];
  if (by("strength-text").textContent !== text) by("strength-text").textContent = text;
}

export function offerToShow(...inputs) {
  by("show").hidden = false;
  by("show-password").addEventListener("change", ({ target }) => {
    for (const input of inputs) input.type = target.checked ? "text" : "password";
  });
}

// Has `ask` called when the typing stops.
export function afterTyping(input, ask) {
  let timer;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, 350);
  });
}
