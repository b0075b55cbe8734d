// What a link in a mail opens. The token comes in the fragment, which no browser sends; it leaves the address bar at
// once, and is posted to confirm or to void when a person presses a button. Until then it is kept with this page's
// place in the tab's history, so that a reload does not lose it.
import { call, explain } from "./api.js";
import { sayMoment, words } from "./words.js";

const by = (id) => document.getElementById(id);
const form = by("form");
const buttons = [...form.querySelectorAll("button")];
const password = by("password"); // on one of the two pages
const texts = words.confirm;
const DEEDS = {
  confirm: { path: "/api/v1/confirm-email", heading: texts.done_title, done: texts.done },
  repudiate: { path: "/api/v1/confirm-email/repudiate", heading: texts.voided_title, done: texts.voided },
};
// After these, pressing again changes nothing.
const OVER = new Set(["token_invalid", "token_expired", "token_void", "already_confirmed"]);

function say(text, tone = "") {
  by("status").textContent = text;
  by("status").dataset.tone = tone;
}

function showDone(deed) {
  by("ask").hidden = true;
  by("heading").textContent = DEEDS[deed].heading;
  by("heading").focus();
  say(`${DEEDS[deed].done} ${words.common.closable}`, "good");
}

function showProblem(told) {
  const over = OVER.has(told.code);
  by("ask").hidden = over;
  by("ways").hidden = !over;
  say(texts[told.code] ?? explain(told), "bad");
}

async function begin() {
  by("fallback").hidden = true;
  if (location.href.includes("#")) {
    const token = new URLSearchParams(location.hash.slice(1)).get("t");
    history.replaceState({ token }, "", location.pathname);
  }
  const { token, done } = history.state ?? {};
  if (done) return showDone(done);
  if (!token) return say(texts.incomplete, "bad");
  by("ask").hidden = false;
  if (by("it-was-me")) by("it-was-me").hash = `t=${token}`;
  say("");
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

async function press(deed) {
  const body = { token: history.state.token };
  if (deed === "confirm" && password.required) body.password = password.value;
  buttons.forEach((button) => (button.disabled = true));
  say(words.common.working);
  const told = await call("POST", DEEDS[deed].path, body);
  buttons.forEach((button) => (button.disabled = false));
  if (told.ok) {
    history.replaceState({ done: deed }, "");
    showDone(deed);
  } else if (told.code === "password_needed") {
    say(password.required ? texts.password_wrong : "", "bad");
    by("password-field").hidden = false;
    password.required = true;
    password.select();
  } else {
    showProblem(told);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  press(form.dataset.action);
});
by("other")?.addEventListener("click", () => press("repudiate"));
addEventListener("hashchange", () => location.reload()); // another link, opened in the same tab
begin();
