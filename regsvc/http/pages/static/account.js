// The account: moments in the reader's own time, and the strength of a new password. All else are plain forms.
import { call } from "./api.js";
import "./moments.js";
import { afterTyping, offerToShow, showStrength } from "./strength.js";

const password = document.getElementById("new-password");

// Absent where the user has to prove first that it is them.
if (password) {
  afterTyping(password, async () => {
    const told = await call("POST", "/signup/check", { password: password.value });
    if (told.ok) showStrength(told.strength);
  });
  offerToShow(...[document.getElementById("current-password"), password].filter(Boolean));
}
