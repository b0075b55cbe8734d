// What a link in a mail opens. The token comes in the fragment, which no browser sends; it leaves the address bar at
// once, and is posted when a person presses the button. Until then it is kept with this page's place in the tab's
// history, so that a reload does not lose it.
const [heading, ask, form, status, aside, other] = ["heading", "ask", "form", "status", "aside", "other"].map(
  (id) => document.getElementById(id),
);
const button = form.querySelector("button");
const passwordField = document.getElementById("password-field"); // on one of the two pages
const password = document.getElementById("password");

// After these, pressing again changes nothing.
const OVER = new Set(["token_invalid", "token_expired", "already_confirmed"]);

function offer(shown) {
  ask.hidden = aside.hidden = !shown;
}

function say(text, tone = "") {
  status.textContent = text;
  status.dataset.tone = tone;
}

function showDone() {
  offer(false);
  heading.textContent = form.dataset.heading;
  say(form.dataset.done, "good");
}

function begin() {
  document.getElementById("fallback").hidden = true;
  if (location.href.includes("#")) {
    const token = new URLSearchParams(location.hash.slice(1)).get("t");
    history.replaceState({ token }, "", location.pathname);
  }
  const { token, done } = history.state ?? {};
  if (done) {
    showDone();
  } else if (token) {
    offer(true);
    other.hash = `t=${token}`;
    say("");
  } else {
    say("This link is incomplete. Open it from the mail again.", "bad");
  }
}

async function post(body) {
  try {
    const response = await fetch(form.dataset.action, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
    });
    return response.ok ? { ok: true } : await response.json();
  } catch {
    return { detail: "The service cannot be reached right now. Try again in a moment." };
  }
}

async function press(event) {
  event.preventDefault();
  const body = { token: history.state.token };
  if (password?.required) body.password = password.value;
  button.disabled = true;
  say("One moment…");
  const { ok, code, detail } = await post(body);
  button.disabled = false;
  if (ok) {
    history.replaceState({ done: true }, "");
    showDone();
  } else if (code === "password_needed") {
    say(password.required ? "No sign-up for this address has this password." : "", "bad");
    passwordField.hidden = false;
    password.required = true;
    password.select();
  } else {
    offer(!OVER.has(code));
    say(detail, "bad");
  }
}

form.addEventListener("submit", press);
addEventListener("hashchange", () => location.reload()); // another link, opened in the same tab
begin();
