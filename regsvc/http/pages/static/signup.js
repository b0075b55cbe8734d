// The form to sign up: checked while somebody types by the code that the API checks with, then sent, then followed.
import { adviseOn } from "./advice.js";
import { call, explain } from "./api.js";
import { openInbox, reopenInbox } from "./inbox.js";
import { available, explainRefusal, makePasskey } from "./passkeys.js";
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
let made = { of: "" }; // a passkey whose sign-up did not come through, for the next try

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

function send(body) {
  const text = JSON.stringify(body);
  // Pressed again after a broken connection, it is the same sign-up, not a second one.
  if (sent.text !== text) sent = { text, key: crypto.randomUUID?.() };
  return call("POST", "/api/v1/register", body, {
    Prefer: "return=representation",
    ...(sent.key && { "Idempotency-Key": sent.key }),
  });
}

async function submit(event) {
  event.preventDefault();
  Object.keys(fields).forEach((name) => touched.add(name));
  by("problem").textContent = "";
  button.disabled = true;
  button.textContent = words.common.working;
  const typed = values();
  const told = await send(typed);
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

// The same with a passkey: what else is typed has to be right before the browser asks for one.
async function submitWithPasskey() {
  Object.keys(fields).forEach((name) => name !== "password" && touched.add(name));
  touched.delete("password");
  by("problem").textContent = "";
  by("use-passkey").disabled = true;
  try {
    const checked = await check();
    const wrong = Object.keys(fields).find((name) => name !== "password" && checked.faults?.[name]);
    if (wrong) fields[wrong].focus();
    else by("problem").textContent = await trySignUp();
  } finally {
    by("use-passkey").disabled = false;
  }
}

// Signs up, or returns what a person is told instead.
async function trySignUp() {
  const { password, ...typed } = values();
  const { name, email } = typed;
  const of = `${name}\n${email}`;
  if (made.of !== of) {
    const told = await call("POST", "/api/v1/register/passkey/options", { name, email });
    if (!told.ok) return explain(told);
    try {
      made = { of, passkey: await makePasskey(told) };
    } catch (error) {
      return explainRefusal(error);
    }
  }
  const told = await send({ ...typed, passkey: made.passkey });
  if (told.status !== 0 && told.status !== 429 && told.status !== 503) made = { of: "" };
  if (!told.ok) return explain(told);
  openInbox({ ...told.registration, email });
  return "";
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
by("passkey").hidden = !available;
by("use-passkey").addEventListener("click", submitWithPasskey);
reopenInbox();
