// "Check your inbox": what becomes of a sign-up, moving by itself, and all that its owner can do meanwhile.
//
// Id and handle are kept for this tab, so that a reload finds its place; the password only in this script's memory, for
// the moment when the address is confirmed, and nowhere else.
import { call, explain } from "./api.js";
import { follow } from "./live.js";
import { fill, sayMoment, sayTime, words } from "./words.js";

const KEPT = "regsvc.signup";
const MARKS = {
  queued: ["done", "", "", ""],
  sending: ["done", "now", "", ""],
  delayed: ["done", "trouble", "", ""],
  bounced: ["done", "trouble", "", ""],
  sent: ["done", "done", "done", ""],
  confirmed: ["done", "done", "done", "done"],
};
const by = (id) => document.getElementById(id);
const steps = [...by("steps").children];

let known; // the sign-up that this tab made
let password;
let follower;
let counting;

export function openInbox(registration, typed) {
  known = { id: registration.id, handle: registration.handle, email: registration.email };
  password = typed;
  sessionStorage.setItem(KEPT, JSON.stringify(known));
  begin();
  by("inbox-title").focus();
}

export function reopenInbox() {
  known = JSON.parse(sessionStorage.getItem(KEPT));
  if (known) begin();
}

function begin() {
  by("signup").hidden = true;
  by("inbox").hidden = false;
  document.title = document.title.replace(words.signup.title, words.inbox.title);
  show({ state: "queued" });
  followAnew();
}

async function followAnew() {
  follower?.abort();
  follower = new AbortController();
  const { signal } = follower;
  const end = await follow(known, show, signal);
  if (end === "gone" && !signal.aborted) startOver();
}

const owned = () => ({ "Regsvc-Handle": known.handle });

function show(told) {
  const { state } = told;
  let text = fill(words.inbox[state === "sent" && told.delivered_at ? "delivered" : state], { email: known.email });
  if (state === "delayed" || state === "bounced") text += ` ${words.reasons[told.reason] ?? words.reasons[""]}`;
  if (told.next_try_at) text += ` ${fill(words.inbox.next_try, { time: sayTime(told.next_try_at) })}`;
  by("lead").textContent = text;
  by("lead").dataset.state = state;
  const marks = MARKS[state] ?? MARKS.sent;
  steps.forEach((step, place) => {
    step.dataset.mark = marks[place];
    step.lastElementChild.textContent = marks[place] && `: ${words.inbox[marks[place]]}`;
  });
  if (state === "bounced") {
    by("wrong").open = true;
    by("new-email").value ||= known.email; // most often one letter is wrong
  }
  if (state === "sent") askForCountdown();
  if (state === "confirmed") welcome();
  if (state === "expired" || state === "repudiated") endHere();
}

function say(text, tone = "") {
  by("said").textContent = text;
  by("said").dataset.tone = tone;
}

// -- the mail once more

async function askForCountdown() {
  const told = await call("GET", `/api/v1/registrations/${known.id}`, null, owned());
  if (told.ok) countDown(told.next_resend_at);
}

function countDown(until) {
  clearInterval(counting);
  const button = by("resend");
  const tick = () => {
    const left = until ? Math.ceil((new Date(until) - Date.now()) / 1000) : 0;
    button.disabled = left > 0;
    const time = left > 3600 ? sayMoment(until) : `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    button.textContent = left > 0 ? fill(words.inbox.resend_wait, { time }) : words.inbox.resend_button;
    if (left <= 0) clearInterval(counting);
  };
  counting = setInterval(tick, 1000);
  tick();
}

by("resend").addEventListener("click", async () => {
  const body = { email: known.email, registration: known.id };
  const told = await call("POST", "/api/v1/confirm-email/resend", body, owned());
  if (told.next_resend_at) countDown(told.next_resend_at);
  if (told.ok) say(words.inbox.resent, "good");
  else say(explain(told), "bad");
});

// -- another address

function showFault(input, text) {
  by(`${input.id}-fault`).textContent = text;
  if (text) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
  if (text) input.focus();
}

by("address-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const input = by("new-email");
  const email = input.value.trim();
  const told = await call("PATCH", `/api/v1/registrations/${known.id}`, { email }, owned());
  showFault(input, told.status === 400 ? words.errors[email ? "email_invalid" : "email_missing"] : "");
  if (told.ok) {
    known.email = email;
    sessionStorage.setItem(KEPT, JSON.stringify(known));
    input.value = "";
    by("wrong").open = false;
    countDown(told.next_resend_at);
    say(words.inbox.address_changed, "good");
    followAnew();
  } else if (told.status !== 400) {
    say(explain(told), "bad");
  }
});

// -- the six digits

const code = by("code");

// Digits of any script; the service knows their values.
const readDigits = () => code.value.match(/\p{Nd}/gu) ?? [];

async function enterCode() {
  const digits = readDigits();
  if (digits.length !== 6) return showFault(code, words.errors.code_missing);
  code.readOnly = true;
  const told = await call("POST", "/api/v1/confirm-email/code", { registration: known.id, code: digits.join("") }, owned());
  code.readOnly = false;
  if (told.ok) {
    showFault(code, "");
    show({ state: "confirmed" });
  } else {
    showFault(code, explain(told));
    code.select();
  }
}

by("code-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!code.readOnly) enterCode();
});
code.addEventListener("input", ({ inputType }) => {
  by("code-fault").textContent = "";
  // Pasted or filled in, it is whole; typed, it may want a second look.
  if (readDigits().length === 6 && inputType !== "insertText") enterCode();
});

// -- the end

function endHere() {
  follower?.abort();
  clearInterval(counting);
  by("open").hidden = true;
  say("");
  sessionStorage.removeItem(KEPT);
  by("anew").hidden = false;
}

function startOver() {
  sessionStorage.removeItem(KEPT);
  location.reload();
}

async function welcome() {
  if (by("open").hidden) return;
  endHere();
  by("anew").hidden = true;
  by("inbox-title").textContent = words.inbox.confirmed_title;
  document.title = document.title.replace(words.inbox.title, words.inbox.confirmed_title);
  by("inbox-title").focus();
  by("log-in").hidden = Boolean(password);
  if (!password) return;
  // The tab that knows the password goes on by itself; its form is taken like any other.
  by("lead").textContent = words.inbox.signing_in;
  const form = by("login-form");
  form.elements.email.value = known.email;
  form.elements.password.value = password;
  password = undefined;
  form.submit();
}
