// Waits for the mail with a login code. The forms are plain ones: what answers them is a page.
import { follow } from "./live.js";
import { startWaiting } from "./waiting.js";

const STATUS = "/login/code/status";
const shown = JSON.parse(document.getElementById("shown").textContent);
let leaving = false; // a form is being sent: what answers it comes next, whatever is heard meanwhile
const lookAgain = () => leaving || location.replace(STATUS);

startWaiting({
  email: shown.email,
  state: shown.state,
  follow: (show, signal) => follow(shown, show, signal),
  enter() {
    leaving = true;
    document.getElementById("code-form").submit();
    return new Promise(() => {});
  },
  confirmed: lookAgain,
  ended: lookAgain,
  gone: lookAgain,
});
