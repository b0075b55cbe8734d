// Follows a registration: by websocket, and by long polls where that does not come through.
import { call } from "./api.js";

const FINAL = new Set(["confirmed", "expired", "repudiated"]);
const GONE = 4401;
const SILENCE = 8000; // milliseconds after which a websocket without a first message is given up
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Calls `show` with each state until a final one, or until `signal` says stop; returns "gone" if the handle opens nothing.
export async function follow({ id, handle }, show, signal) {
  let seq = 0;
  let final = false;
  const tell = (told) => {
    final = FINAL.has(told.state);
    if (told.seq <= seq || signal.aborted) return;
    seq = told.seq;
    show(told);
  };
  let swallowed = false; // a proxy took a websocket and passed nothing on: it will not do better next time
  for (let failures = 0; !final && !signal.aborted; ) {
    const { heard, code, silent } = swallowed ? {} : await listen(id, handle, tell, signal);
    if (code === GONE) return "gone";
    swallowed ||= silent;
    failures = heard ? 0 : failures + 1;
    if (!final && !signal.aborted && (swallowed || failures > 1)) {
      const told = await call("GET", `/api/v1/registrations/${id}?wait=20&seq=${seq}`, null, { "Regsvc-Handle": handle });
      if (told.status === 404) return "gone";
      if (told.ok) tell(told);
      if (told.ok && swallowed) failures = 0; // it was the poll that waited
    }
    if (!final) await pause(Math.min(500 * 2 ** failures, 8000) * (0.75 + Math.random() / 2));
  }
  return "over";
}

function listen(id, handle, tell, signal) {
  return new Promise((resolve) => {
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/api/v1/registrations/${id}/live`);
    let heard = false;
    const patience = setTimeout(() => {
      resolve({ heard, silent: true });
      socket.close();
    }, SILENCE);
    signal.addEventListener("abort", () => socket.close(), { once: true });
    socket.addEventListener("open", () => socket.send(JSON.stringify({ handle })));
    socket.addEventListener("message", ({ data }) => {
      heard = true;
      clearTimeout(patience);
      tell(JSON.parse(data));
    });
    socket.addEventListener("close", ({ code }) => {
      clearTimeout(patience);
      resolve({ heard, code });
    });
  });
}
