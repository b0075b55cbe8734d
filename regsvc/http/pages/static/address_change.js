// Waits on the account page for the mail of an email change. Only the browser's session opens its state, which has no
// websocket of its own: the page asks now and then, as long as it is looked at.
import { startWaiting } from "./waiting.js";

const STATE = "/account/address/state";
const EVERY = 3000; // milliseconds
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const shown = JSON.parse(document.getElementById("shown").textContent);
// Another address than before, so that it is no step within the page; and no form is sent again.
const lookAgain = () => location.replace(`/account?at=${Date.now()}#address`);

async function follow(show, signal) {
  let last = JSON.stringify(shown);
  for (;;) {
    await pause(EVERY);
    if (signal.aborted) return "over";
    if (document.hidden) continue;
    try {
      const response = await fetch(STATE, { headers: { Accept: "application/json" }, cache: "no-store" });
      if (response.status === 401 || response.status === 404) return "gone";
      if (!response.ok) continue;
      const told = await response.json();
      if (told.email !== shown.email) return "gone";
      if (JSON.stringify(told) !== last) show(told);
      last = JSON.stringify(told);
    } catch {
      // the service cannot be reached: asked again
    }
  }
}

startWaiting({ email: shown.email, state: shown.state, follow, gone: lookAgain });
