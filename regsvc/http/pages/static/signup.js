// The form to sign up: checked while somebody types by the code that the API checks with, then sent, then followed.
import { adviseOn } from "./advice.js";
import { call, explain } from "./api.js";
import { openInbox, reopenInbox } from "./inbox.js";
import { offerToShow, showStrength } from "./strength.js";
import { words } from "./words.js";

const TYPING = 350; // milliseconds of silence after which what was typed is looked at
const by = (id) => document.getElementById(id);
const form = by("signup-form");
const button = form.querySelector("button");
const fields = { name: by("name"), email: by("email"), password: by("password") };
if (by("terms")) fields.terms = by("terms"); // where the service has terms of use
const touched = new Set(); // nobody is told off for a field that they have not left yet

let timer;
let latest = 0;
let sent = { text: "", key: "" };

const read = (input) => (input.type === "checkbox" && !input.checked ? "" : input.value);
const values = () => Object.fromEntries(Object.entries(fields).map(([name, input]) => [name, read(input)]));

function showFault(name, text) {
  by(`${name}-fault`).textContent = text;
  if (text) fields[name].setAttribute("aria-invalid", "true");
  else fields[name].removeAttribute("aria-invalid");
}

async function check() {
  clearTimeout(timer);
  const turn = ++latest;
  const told = await call("POST", "/signup/check", values());
  if (turn !== latest || !told.ok) return told;
  for (const name of Object.keys(fields)) showFault(name, touched.has(name) ? (told.faults[name] ?? "") : "");
  showStrength(told.strength);
  return told;
}

function noticeTyping() {
  clearTimeout(timer);
  timer = setTimeout(check, TYPING);
}

async function submit(event) {
  event.preventDefault();
  Object.keys(fields).forEach((name) => touched.add(name));
  by("problem").textContent = "";
  button.disabled = true;
  button.textContent = words.common.working;
  const typed = values();
  const text = JSON.stringify(typed);
  // Pressed again after a broken connection, it is the same sign-up, not a second one.
  if (sent.text !== text) sent = { text, key: crypto.randomUUID?.() };
  const told = await call("POST", "/api/v1/register", typed, {
    Prefer: "return=representation",
    ...(sent.key && { "Idempotency-Key": sent.key }),
  });
  button.disabled = false;
  button.textContent = words.signup.button;
  if (told.ok) {
    fields.password.value = "";
    openInbox({ ...told.registration, email: typed.email }, typed.password);
  } else if (told.status === 400 || told.status === 422) {
    const { faults } = await check();
    if (faults) form.querySelector("[aria-invalid]")?.focus();
    else by("problem").textContent = explain(told);
  } else {
    by("problem").textContent = explain(told);
  }
}

for (const [name, input] of Object.entries(fields)) {
  input.addEventListener("input", noticeTyping);
  input.addEventListener("blur", () => {
    if (input.value) touched.add(name);
    noticeTyping();
  });
}
offerToShow(fields.password);
adviseOn(fields.email);
form.addEventListener("submit", submit);
reopenInbox();
