// A passkey as second factor of a login, or as proof that the user of a session is there.
import { explain } from "./api.js";
import { askFor, available, explainRefusal, usePasskey } from "./passkeys.js";

const by = (id) => document.getElementById(id);
const block = by("passkey");

async function press({ target }) {
  const form = by("passkey-form");
  by("problem").textContent = "";
  target.disabled = true;
  const told = await askFor(block.dataset.options);
  try {
    if (told.ok) {
      form.elements.assertion.value = JSON.stringify(await usePasskey(told));
      return form.submit();
    }
    by("problem").textContent = explain(told);
  } catch (error) {
    by("problem").textContent = explainRefusal(error);
  }
  target.disabled = false;
}

if (block && available) {
  block.hidden = false;
  by("use-passkey").addEventListener("click", press);
}
