// The page that waits for a mail, whatever the mail is for: its state, moving by itself, and all that its reader can do
// meanwhile. `waiting.html` has the elements; a page may lack some. Every page that waits uses this module:
//
//   const page = startWaiting({
//     email,                 // where the mail goes
//     state,                 // that the page shows already, made on the server. Left out: the first one
//     follow(show, signal),  // calls show(state) with each state; resolves to "gone" if there is nothing to follow
//     enter(digits),         // tries a code; resolves to an answer of `call`
//     resend(),              // asks for the mail again; likewise. Left out: its form is sent as it is
//     correct(email),        // sends it to another address; likewise. Left out: no other address can be given
//     confirmed(),           // the code or the link was right
//     ended(), gone(), moved(email),
//   });
import { adviseOn } from "./advice.js";
import { call, explain } from "./api.js";
import { fill, sayMoment, sayTime, words } from "./words.js";

const MARKS = {
  queued: ["done", "", "", ""],
  sending: ["done", "now", "", ""],
  delayed: ["done", "trouble", "", ""],
  bounced: ["done", "trouble", "", ""],
  sent: ["done", "done", "done", ""],
  confirmed: ["done", "done", "done", "done"],
};
const LINK_LIFE = 24 * 3600_000; // milliseconds of a link, from the acceptance of its mail
const by = (id) => document.getElementById(id);

export function startWaiting(what) {
  const steps = [...(by("steps")?.children ?? [])];
  const code = by("code");
  let { email } = what;
  let follower;
  let counting;
  let latest = { state: what.state ?? "queued" };
  let heard = !what.state; // until then the page says what the server wrote
  let mailbox = { webmail: null, usual: null };
  let tick;

  // -- the state

  async function followAnew() {
    follower?.abort();
    follower = new AbortController();
    const { signal } = follower;
    const end = await what.follow(show, signal);
    if (end === "gone" && !signal.aborted) what.gone?.();
  }

  function show(told) {
    latest = told;
    heard = true;
    const { state } = told;
    let text = fill(words.inbox[state === "sent" && told.delivered_at ? "delivered" : state], { email });
    if (state === "delayed" || state === "bounced") text += ` ${words.reasons[told.reason] ?? words.reasons[""]}`;
    if (told.next_try_at) text += ` ${fill(words.inbox.next_try, { time: sayTime(told.next_try_at) })}`;
    by("lead").textContent = text;
    by("lead").dataset.state = state;
    const marks = MARKS[state] ?? MARKS.sent;
    steps.forEach((step, place) => {
      step.dataset.mark = marks[place];
      step.lastElementChild.textContent = marks[place] && `: ${words.inbox[marks[place]]}`;
    });
    explainAbsence();
    const wrong = by("wrong");
    if (state === "bounced" && wrong) {
      wrong.open = true;
      const typed = wrong.querySelector("input[type=email]");
      if (typed) typed.value ||= email; // most often one letter is wrong
    }
    if (state === "confirmed") {
      stop();
      what.confirmed();
    } else if (state === "expired" || state === "repudiated") {
      stop();
      what.ended?.();
    }
  }

  function say(text, tone = "") {
    if (!by("said")) return;
    by("said").textContent = text;
    by("said").dataset.tone = tone;
  }

  // -- "nothing came?", from the facts of this mail and the usual time of its receiver

  function explainAbsence() {
    if (!heard) return;
    const domain = email.slice(email.lastIndexOf("@") + 1);
    const { state, delivered_at, expires_at } = latest;
    let text = "";
    if (["queued", "sending", "delayed"].includes(state)) text = fill(words.waiting.nothing_sent, { domain });
    else if (state === "sent" && delivered_at) {
      text = fill(words.waiting.nothing_delivered, { domain, time: sayTime(delivered_at) });
    } else if (state === "sent" && expires_at) {
      const accepted = new Date(expires_at) - LINK_LIFE;
      const due = mailbox.usual === null ? null : accepted + mailbox.usual * 1000;
      const key = due === null ? "nothing_accepted" : Date.now() < due ? "nothing_yet" : "nothing_late";
      text = fill(words.waiting[key], { domain, time: sayTime(accepted), due: due && sayTime(due) });
      clearTimeout(tick);
      if (key === "nothing_yet") tick = setTimeout(explainAbsence, due - Date.now() + 50);
    }
    if (by("nothing").textContent !== text) by("nothing").textContent = text;
  }

  async function findMailbox() {
    const asked = email;
    const told = await call("POST", "/mailbox", { email });
    if (!told.ok || asked !== email) return;
    mailbox = told;
    by("mailbox").hidden = !told.webmail;
    if (told.webmail) {
      by("webmail").href = told.webmail.url;
      by("webmail").textContent = fill(words.waiting.open, { mailbox: told.webmail.name });
    }
    explainAbsence();
  }

  // -- the mail once more

  function countDown(until) {
    clearInterval(counting);
    const button = by("resend");
    const beat = () => {
      const left = until ? Math.ceil((new Date(until) - Date.now()) / 1000) : 0;
      button.disabled = left > 0;
      const time = left > 3600 ? sayMoment(until) : `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
      button.textContent = left > 0 ? fill(words.inbox.resend_wait, { time }) : words.inbox.resend_button;
      if (left <= 0) clearInterval(counting);
    };
    counting = setInterval(beat, 1000);
    beat();
  }

  async function resend(event) {
    event.preventDefault();
    const told = await what.resend();
    if (told.next_resend_at) countDown(told.next_resend_at);
    if (told.ok) say(words.inbox.resent, "good");
    else say(explain(told), "bad");
  }

  // -- another address

  function showFault(input, text) {
    by(`${input.id}-fault`).textContent = text;
    if (text) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }

  async function correct(event) {
    event.preventDefault();
    const input = by("new-email");
    const typed = input.value.trim();
    const told = await what.correct(typed);
    showFault(input, told.status === 400 ? words.errors[typed ? "email_invalid" : "email_missing"] : "");
    if (told.ok) {
      email = typed;
      what.moved?.(typed);
      input.value = "";
      by("wrong").open = false;
      by("mailbox").hidden = true;
      mailbox = { webmail: null, usual: null };
      findMailbox();
      countDown(told.next_resend_at);
      say(words.inbox.address_changed, "good");
      followAnew();
    } else if (told.status !== 400) {
      say(explain(told), "bad");
    }
  }

  // -- the six digits

  // Digits of any script, whatever stands between them; the service knows their values.
  const readDigits = () => code.value.match(/\p{Nd}/gu) ?? [];

  async function enterCode() {
    const digits = readDigits();
    if (digits.length !== 6) return showFault(code, words.errors.code_missing);
    code.readOnly = true;
    const told = await what.enter(digits.join(""));
    code.readOnly = false;
    if (told.ok) {
      showFault(code, "");
      show({ ...latest, state: "confirmed" });
    } else {
      showFault(code, explain(told));
      code.select();
    }
  }

  function stop() {
    follower?.abort();
    clearInterval(counting);
    clearTimeout(tick);
    if (by("open")) by("open").hidden = true;
    say("");
  }

  by("code-form")?.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!code.readOnly) enterCode();
  });
  code?.addEventListener("input", ({ isComposing }) => {
    by("code-fault").textContent = "";
    // Typed, pasted or filled in, six digits are the whole.
    if (!isComposing && !code.readOnly && readDigits().length === 6) enterCode();
  });
  if (what.resend) by("resend-form").addEventListener("submit", resend);
  if (what.correct && by("address-form")) {
    by("address-form").addEventListener("submit", correct);
    adviseOn(by("new-email"));
  }
  // What a page without scripts has to look again by.
  for (const link of document.querySelectorAll("[data-again]")) link.hidden = true;
  if (!what.state) show(latest);
  findMailbox();
  followAnew();
  return { countDown, stop };
}
