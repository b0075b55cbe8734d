// Proof of work: what the service asks for before calls that mail or hash, when many of them come from one network.
// A worker solves it, so that the page goes on; nothing is loaded from elsewhere.
const PIECE = 5000; // numbers that a page without workers tries before it lets others go on
let busy = false;

// Returns what goes into the header `Regsvc-Solution`, or the field `altcha` of a form.
export async function solve(challenge) {
  const began = performance.now();
  const solution = await inWorker(challenge.parameters).catch(() => inPieces(challenge.parameters));
  return btoa(JSON.stringify({ challenge, solution: { ...solution, time: performance.now() - began } }));
}

function inWorker(parameters) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./solver.js", import.meta.url), { type: "module" });
    worker.addEventListener("error", reject);
    worker.addEventListener("message", ({ data }) => {
      worker.terminate();
      resolve(data);
    });
    worker.postMessage(parameters);
  });
}

async function inPieces(parameters) {
  const { search } = await import("./solver.js");
  for (let from = 0; ; from += PIECE) {
    const found = search(parameters, from, PIECE);
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve));
  }
}

// A form without a script of its own: it is sent once a challenge is solved, if there is one.
async function submit(event) {
  event.preventDefault();
  if (busy) return;
  busy = true;
  const form = event.target;
  const button = form.querySelector("button");
  const text = button?.textContent;
  if (button) {
    button.disabled = true;
    button.textContent = form.dataset.working ?? text;
  }
  const field = form.elements.altcha ?? form.appendChild(document.createElement("input"));
  Object.assign(field, { type: "hidden", name: "altcha", value: await findSolution(form) });
  form.submit();
  // Back to this page, the form is as it was.
  addEventListener("pageshow", () => {
    busy = false;
    field.value = "";
    if (button) Object.assign(button, { disabled: false, textContent: text });
  });
}

async function findSolution(form) {
  const email = form.dataset.email ?? form.elements.email?.value;
  try {
    const response = await fetch("/api/v1/challenge", {
      method: "POST",
      headers: { Accept: "application/json", "Content-Type": "application/json" },
      body: JSON.stringify({ purpose: form.dataset.challenge, ...(email && { email: email.slice(0, 320) }) }),
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
    });
    const { challenge } = await response.json();
    return challenge ? await solve(challenge) : "";
  } catch {
    return ""; // the form's own answer says what is wrong
  }
}

for (const note of document.querySelectorAll("[data-without-scripts]")) note.hidden = true;
for (const form of document.querySelectorAll("form[data-challenge]")) form.addEventListener("submit", submit);
