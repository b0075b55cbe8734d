// Advice on an address while it is typed: never a refusal, and nothing where nothing is known.
import { call } from "./api.js";
import { fill, words } from "./words.js";

const TYPING = 700; // milliseconds of silence after which what was typed is looked at

// An input with the id "x" has a place for its advice with the id "x-advice".
export function adviseOn(input) {
  const place = document.getElementById(`${input.id}-advice`);
  let timer;
  let asked = "";

  function show({ suggestion, problem }) {
    const text = suggestion
      ? fill(words.advice.did_you_mean, { email: suggestion })
      : problem === "takes_no_mail" ? words.advice.takes_no_mail : "";
    place.replaceChildren(text);
    if (!suggestion) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "plain small";
    button.textContent = words.advice.use;
    button.addEventListener("click", () => {
      input.value = suggestion;
      asked = suggestion;
      place.replaceChildren();
      input.dispatchEvent(new Event("input", { bubbles: true }));
      input.focus();
    });
    place.append(" ", button);
  }

  async function look() {
    clearTimeout(timer);
    const email = input.value.trim();
    if (email === asked) return;
    asked = email;
    if (!/@.*[^@\s]/.test(email)) return place.replaceChildren();
    const told = await call("POST", "/api/v1/address-advice", { email });
    if (input.value.trim() === email) show(told.ok ? told : {});
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, TYPING);
  });
  input.addEventListener("blur", look);
}
