// Copy and print the recovery codes. Without this script they can be selected, and the browser prints pages itself.

const codes = document.getElementById("codes");
const said = document.getElementById("said");

document.getElementById("helpers").hidden = false;
document.getElementById("copy").hidden = !navigator.clipboard;
document.getElementById("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(`${codes.textContent}\n`);
    said.textContent = said.dataset.copied;
  } catch {
    getSelection().selectAllChildren(codes); // not allowed to: one key does the rest
  }
});
document.getElementById("print").addEventListener("click", () => print());
