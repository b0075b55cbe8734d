// "Check your inbox" of a sign-up.
//
// Id and handle are kept for this tab, so that a reload finds its place; the password only in this script's memory, for
// the moment when the address is confirmed, and nowhere else.
import { call } from "./api.js";
import { follow } from "./live.js";
import { startWaiting } from "./waiting.js";
import { words } from "./words.js";

const KEPT = "regsvc.signup";
const by = (id) => document.getElementById(id);

let known; // the sign-up that this tab made
let password;

export function openInbox(registration, typed) {
  known = { id: registration.id, handle: registration.handle, email: registration.email };
  password = typed;
  keep();
  begin();
  by("inbox-title").focus();
}

export function reopenInbox() {
  known = JSON.parse(sessionStorage.getItem(KEPT));
  if (known) begin();
}

const keep = () => sessionStorage.setItem(KEPT, JSON.stringify(known));

function begin() {
  by("signup").hidden = true;
  by("inbox").hidden = false;
  document.title = document.title.replace(words.signup.title, words.inbox.title);
  const path = `/api/v1/registrations/${known.id}`;
  const owned = { "Regsvc-Handle": known.handle };
  const page = startWaiting({
    email: known.email,
    follow: (show, signal) =>
      follow(known, (told) => {
        show(told);
        if (told.state === "sent") askForCountdown();
      }, signal),
    enter: (digits) => call("POST", "/api/v1/confirm-email/code", { registration: known.id, code: digits }, owned),
    resend: () =>
      call("POST", "/api/v1/confirm-email/resend", { email: known.email, registration: known.id }, owned),
    correct: (email) => call("PATCH", path, { email }, owned),
    moved(email) {
      known.email = email;
      keep();
    },
    confirmed: welcome,
    ended() {
      sessionStorage.removeItem(KEPT);
      by("anew").hidden = false;
    },
    gone() {
      sessionStorage.removeItem(KEPT);
      location.reload();
    },
  });

  async function askForCountdown() {
    const told = await call("GET", path, null, owned);
    if (told.ok) page.countDown(told.next_resend_at);
  }
}

function welcome() {
  sessionStorage.removeItem(KEPT);
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
  form.requestSubmit(); // a script may have to prepare it
}
