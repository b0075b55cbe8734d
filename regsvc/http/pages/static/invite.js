// The page behind an invitation: name and password, sent with the token of its link when a person presses the button.
import { call, explain } from "./api.js";
import { takeToken } from "./token.js";
import { afterTyping, offerToShow, showStrength } from "./strength.js";
import { fill, words } from "./words.js";

const by = (id) => document.getElementById(id);
const form = by("form");
const button = form.querySelector("button");
const inputs = { name: by("name"), password: by("password"), ...(by("terms") && { terms: by("terms") }) };
const OVER = new Set(["invitation_invalid", "invitation_over", "signup_closed"]);

function say(text, tone = "") {
  by("status").textContent = text;
  by("status").dataset.tone = tone;
}

function showFault(name, code) {
  const input = inputs[name];
  const read = input.type === "checkbox" ? input.checked : input.value.trim();
  const text = read ? (words.errors[`${name}_${code}`] ?? words.errors[`${name}_invalid`]) : words.errors[`${name}_missing`];
  by(`${name}-fault`).textContent = fill(text ?? words.common.failed, words.lengths);
  input.setAttribute("aria-invalid", "true");
}

function clearFaults() {
  for (const [name, input] of Object.entries(inputs)) {
    by(`${name}-fault`).textContent = "";
    input.removeAttribute("aria-invalid");
  }
}

function end() {
  by("ask").hidden = true;
  by("heading").textContent = words.invite.done_title;
  by("heading").focus();
  by("onward").hidden = false;
  say(words.invite.done, "good");
}

async function accept(event) {
  event.preventDefault();
  if (button.disabled) return;
  clearFaults();
  const body = { token: history.state.token, name: inputs.name.value, password: inputs.password.value };
  if (inputs.terms?.checked) body.terms = inputs.terms.value;
  if (!body.name.trim()) showFault("name", "missing");
  if (!body.password) showFault("password", "missing");
  if (inputs.terms && !body.terms) showFault("terms", "missing");
  if (form.querySelector("[aria-invalid]")) return form.querySelector("[aria-invalid]").focus();
  button.disabled = true;
  say(words.common.working);
  const told = await call("POST", "/api/v1/invitations/accept", body);
  button.disabled = false;
  if (told.ok) {
    history.replaceState({ done: true }, "");
    return end();
  }
  say("");
  for (const { pointer, code } of told.errors ?? []) {
    if (inputs[pointer.slice(1)]) showFault(pointer.slice(1), code);
  }
  const wrong = form.querySelector("[aria-invalid]");
  if (wrong) return wrong.focus();
  by("ask").hidden = OVER.has(told.code);
  by("ways").hidden = !OVER.has(told.code);
  say(explain(told), "bad");
}

by("fallback").hidden = true;
const { done, complete } = takeToken();
if (done) end();
else if (complete) by("ask").hidden = false;
else say(words.confirm.incomplete, "bad");
form.addEventListener("submit", accept);
offerToShow(inputs.password);
afterTyping(inputs.password, async () => {
  const told = await call("POST", "/signup/check", { password: inputs.password.value });
  if (told.ok) showStrength(told.strength);
});
addEventListener("hashchange", () => location.reload()); // another link, opened in the same tab
