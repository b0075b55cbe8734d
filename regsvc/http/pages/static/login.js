// Logging in with a passkey: by the browser's autofill, which waits with the page, and by a button.
//
// The challenge behind the autofill is renewed before it ends, so that a page which stays open still logs in. A browser
// takes one request at a time: the one that waits is aborted before the next.
import { call, explain } from "./api.js";
import { available, canFillIn, explainRefusal, signalUnknown, usePasskey } from "./passkeys.js";
import { words } from "./words.js";

const OPTIONS = "/api/v1/login/passkey/options";
const SHARE = 0.75; // of a challenge's life, after which the next one is fetched
const PATIENCE = 30_000; // milliseconds until the service is asked again that did not answer
const by = (id) => document.getElementById(id);
const form = by("passkey-form");

let waiting; // aborts the autofill that waits
let renewal;
let staleAt = Infinity;

function answer(assertion) {
  form.elements.assertion.value = JSON.stringify(assertion);
  form.submit();
}

async function waitForAutofill() {
  stopWaiting();
  const { signal } = (waiting = new AbortController());
  const told = await call("POST", OPTIONS);
  if (signal.aborted) return;
  const pause = told.ok ? told.publicKey.timeout * SHARE : Math.max(PATIENCE, (told.wait ?? 0) * 1000);
  staleAt = Date.now() + pause;
  renewal = setTimeout(renew, pause);
  if (!told.ok) return;
  try {
    answer(await usePasskey(told, { mediation: "conditional", signal }));
  } catch {
    // Aborted, or the browser offers none: the button and the password are still there.
  }
}

function stopWaiting() {
  waiting?.abort();
  clearTimeout(renewal);
}

// A page that nobody looks at renews nothing. It does once it is looked at, also after the computer slept.
function renew() {
  if (!document.hidden && Date.now() >= staleAt) waitForAutofill();
}

async function press() {
  stopWaiting();
  by("problem").textContent = "";
  by("use-passkey").disabled = true;
  const told = await call("POST", OPTIONS);
  try {
    if (told.ok) return answer(await usePasskey(told));
    by("problem").textContent = explain(told);
  } catch (error) {
    by("problem").textContent = explainRefusal(error);
  } finally {
    by("use-passkey").disabled = false;
  }
  begin();
}

async function begin() {
  if (await canFillIn()) waitForAutofill();
}

if (available) {
  by("passkey").hidden = false;
  by("use-passkey").addEventListener("click", press);
  document.addEventListener("visibilitychange", renew);
  addEventListener("pageshow", ({ persisted }) => persisted && begin());
  if (words.unknown) signalUnknown(words.unknown);
  begin();
}
