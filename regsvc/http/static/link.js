// What a link in a mail opens: takes the token out of the address bar and posts it when a person says so.
const form = document.getElementById("form");
const ask = document.getElementById("ask");
const status = document.getElementById("status");
const button = form.querySelector("button");
const passwordField = document.getElementById("password-field");
const password = document.getElementById("password");
const notMe = document.getElementById("not-me");

const token = new URLSearchParams(location.hash.slice(1)).get("t");
history.replaceState(null, "", location.pathname);

function say(text, tone) {
  status.textContent = text;
  status.dataset.tone = tone;
}

if (token) {
  ask.hidden = false;
  // The other page gets the token the same way: in a fragment, never in a request.
  if (notMe) {
    notMe.addEventListener("click", (event) => {
      event.preventDefault();
      location.assign(`${notMe.pathname}#t=${token}`);
    });
  }
} else {
  say("This link is incomplete. Open it from the mail again.", "bad");
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  say("One moment…", "");
  const body = { token };
  if (password && !passwordField.hidden) body.password = password.value;
  let answer;
  try {
    const response = await fetch(form.dataset.action, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
    });
    answer = { ok: response.ok, ...(await response.json()) };
  } catch {
    answer = { ok: false, detail: "The service cannot be reached right now. Try again in a moment." };
  }
  button.disabled = false;
  if (answer.ok) {
    ask.hidden = true;
    say(form.dataset.done, "good");
  } else if (answer.code === "password_needed" && passwordField) {
    const first = passwordField.hidden;
    passwordField.hidden = false;
    password.required = true;
    password.focus();
    say(first ? "" : "No sign-up for this address has this password.", "bad");
  } else {
    say(answer.detail, "bad");
  }
});
