// What a link in a mail opens. The token comes in the fragment, which no browser sends; it leaves the address bar at
// once, and is posted to confirm or to void when a person presses a button. Until then it is kept with this page's
// place in the tab's history, so that a reload does not lose it.
import { call, explain } from "./api.js";
import { available, explainRefusal, usePasskey } from "./passkeys.js";
import { afterTyping, offerToShow, showStrength } from "./strength.js";
import { takeToken } from "./token.js";
import { fill, sayMoment, words } from "./words.js";

const by = (id) => document.getElementById(id);
const form = by("form");
const buttons = [...form.querySelectorAll("button")];
const password = by("password"); // on some of the pages
const texts = words.confirm;
const PATHS = {
  confirm: "/api/v1/confirm-email",
  repudiate: "/api/v1/confirm-email/repudiate",
  reset: "/api/v1/password/reset",
  change: "/email-change", // a page's, to which the browser's cookie goes along
  not_me: "/api/v1/me/email/repudiate",
  undo: "/api/v1/me/email/undo",
  panic: "/api/v1/me/panic",
};
const ONWARD = new Set(["confirm", "reset", "change"]); // to the log-in
// After these, pressing again changes nothing.
const OVER = new Set(["token_invalid", "token_expired", "token_void", "already_confirmed"]);

function say(text, tone = "") {
  by("status").textContent = text;
  by("status").dataset.tone = tone;
}

function showDone(deed) {
  by("ask").hidden = true;
  by("heading").textContent = words.deeds[deed].done_title;
  by("heading").focus();
  by("onward").hidden = !ONWARD.has(deed);
  say(words.deeds[deed].done, "good");
}

// A mail program cut the link, or lost what stands behind its #.
function showIncomplete() {
  by("by-code")?.removeAttribute("hidden");
  say(by("by-code") ? texts.incomplete_code : texts.incomplete, "bad");
}

function showProblem(told) {
  const over = OVER.has(told.code);
  by("ask").hidden = over;
  by("ways").hidden = !over;
  say(explain(told), "bad");
}

async function begin() {
  by("fallback").hidden = true;
  const { token, done, complete } = takeToken();
  if (done) return showDone(done);
  if (!complete) return showIncomplete();
  by("ask").hidden = false;
  if (by("it-was-me")) by("it-was-me").hash = `t=${token}`;
  say("");
  if (!by("facts")) return;
  const told = await call("POST", "/api/v1/confirm-email/preview", { token });
  if (told.confirmed && form.dataset.action === "confirm") showDone("confirm");
  else if (told.ok) showFacts(told);
  else if (OVER.has(told.code)) showProblem(told);
}

function showFacts({ email, at, origin, client }) {
  const known = (word) => (word === "unknown" ? texts.unknown : word);
  by("fact-email").textContent = email;
  by("fact-at").textContent = sayMoment(at);
  by("fact-at").dateTime = at;
  by("fact-origin").textContent = known(origin);
  by("fact-client").textContent = known(client);
  by("facts").hidden = false;
}

// By what a sign-up can be chosen where the link alone does not suffice.
function askForMore(methods) {
  const passkey = by("passkey-field");
  by("password-field").hidden = !methods.includes("password");
  password.required = methods.includes("password");
  if (password.required) password.select();
  if (!passkey) return;
  passkey.hidden = !methods.includes("passkey");
  by("use-passkey").hidden = !available;
  if (!password.required && available) by("use-passkey").focus();
}

async function pressWithPasskey() {
  const told = await call("POST", "/api/v1/login/passkey/options");
  if (!told.ok) return showProblem(told);
  try {
    await press("confirm", await usePasskey(told));
  } catch (error) {
    say(explainRefusal(error), "bad");
  }
}

async function press(deed, assertion) {
  const body = { token: history.state.token, ...(assertion && { assertion }) };
  const needed = !assertion && password?.required && ["confirm", "change"].includes(deed);
  if (deed === "reset" || needed) body.password = password.value;
  buttons.forEach((button) => (button.disabled = true));
  say(words.common.working);
  const told = await call("POST", PATHS[deed], body);
  buttons.forEach((button) => (button.disabled = false));
  if (told.ok && told.undo_at) {
    say(fill(words.deeds[deed].waits, { time: sayMoment(told.undo_at) }), "good");
  } else if (told.ok) {
    history.replaceState({ done: deed }, "");
    showDone(deed);
  } else if (told.code === "password_needed" && told.methods?.join() === "code") {
    say(words.confirm.code_needed, "bad"); // a provider began this sign-up: it has no password
    by("by-code").hidden = false;
  } else if (told.code === "password_needed" || told.code === "wrong_password") {
    say(password.required ? explain(told) : "", "bad");
    askForMore(told.methods ?? ["password"]);
  } else if (deed === "reset" && (told.status === 422 || told.status === 400) && told.errors) {
    showWeakness(told.errors[0].code);
  } else {
    showProblem(told);
  }
}

function showWeakness(code) {
  const name = password.value ? `password_${code}` : "password_missing";
  by("password-fault").textContent = fill(words.errors[name] ?? words.errors.password_invalid, words.lengths);
  password.setAttribute("aria-invalid", "true");
  password.focus();
  say("");
}

function prepareReset() {
  offerToShow(password);
  afterTyping(password, async () => {
    const told = await call("POST", "/signup/check", { password: password.value });
    if (told.ok) showStrength(told.strength);
  });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  press(form.dataset.action);
});
if (form.dataset.action === "reset") prepareReset();
by("use-passkey")?.addEventListener("click", pressWithPasskey);
by("other")?.addEventListener("click", () => press("repudiate"));
addEventListener("hashchange", () => location.reload()); // another link, opened in the same tab
begin();
