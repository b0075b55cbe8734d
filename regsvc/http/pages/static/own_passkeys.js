// The passkeys of one's account: adds one, and tells the browser which ones are left.
import { explain } from "./api.js";
import { askFor, available, explainRefusal, makePasskey, signalAccepted } from "./passkeys.js";
import { words } from "./words.js";

const by = (id) => document.getElementById(id);
const form = by("passkey-form"); // while changes are unlocked

async function press({ target }) {
  const problem = by("passkeys").querySelector(".problem");
  problem.textContent = "";
  target.disabled = true;
  const told = await askFor("/account/security/passkeys/options");
  try {
    if (told.code === "proof_needed" || told.status === 401) return location.reload();
    if (told.ok) {
      form.elements.passkey.value = JSON.stringify(await makePasskey(told));
      return form.submit();
    }
    problem.textContent = explain(told);
  } catch (error) {
    problem.textContent = explainRefusal(error);
  }
  target.disabled = false;
}

if (available && words.accepted) signalAccepted(words.accepted);
if (available && form) {
  by("no-passkeys").hidden = true;
  by("make-passkey").hidden = false;
  by("make-passkey").addEventListener("click", press);
}
