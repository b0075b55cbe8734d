// Passkeys in this browser: whether it has them here, its answers as the service takes them, and what it may forget.
import { words } from "./words.js";

const read = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (it) => it.charCodeAt(0));
const write = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const known = (list) => list.map((it) => ({ ...it, id: read(it.id) }));

// Passkeys belong to one site: at another name of the service, or over plain HTTP, there are none.
export const available = Boolean(window.PublicKeyCredential && navigator.credentials && words.site === location.origin);

export const canFillIn = async () =>
  available && Boolean(await PublicKeyCredential.isConditionalMediationAvailable?.().catch(() => false));

export async function makePasskey({ publicKey }) {
  const { id, type, response } = await navigator.credentials.create({
    publicKey: {
      ...publicKey,
      challenge: read(publicKey.challenge),
      user: { ...publicKey.user, id: read(publicKey.user.id) },
      excludeCredentials: known(publicKey.excludeCredentials),
    },
  });
  const transports = response.getTransports?.() ?? [];
  const { clientDataJSON, attestationObject } = response;
  return {
    id,
    type,
    response: { clientDataJSON: write(clientDataJSON), attestationObject: write(attestationObject), transports },
  };
}

export async function usePasskey({ publicKey }, how = {}) {
  const { id, type, response } = await navigator.credentials.get({
    ...how,
    publicKey: {
      ...publicKey,
      challenge: read(publicKey.challenge),
      allowCredentials: known(publicKey.allowCredentials),
    },
  });
  const { clientDataJSON, authenticatorData, signature, userHandle } = response;
  return {
    id,
    type,
    response: {
      clientDataJSON: write(clientDataJSON),
      authenticatorData: write(authenticatorData),
      signature: write(signature),
      userHandle: userHandle && write(userHandle),
    },
  };
}

// Asks for options, with the browser's cookie where a page of ours needs it. Returns as `call` does.
export async function askFor(path) {
  try {
    const headers = { Accept: "application/json" };
    const response = await fetch(path, { method: "POST", headers, cache: "no-store", credentials: "same-origin" });
    const told = await response.json();
    return { ...told, ok: response.ok, status: response.status, wait: response.headers.get("Retry-After") };
  } catch {
    return { ok: false, status: 0, code: "unreachable" };
  }
}

// What a person is told when the browser used no passkey.
export function explainRefusal({ name }) {
  if (name === "NotAllowedError" || name === "AbortError") return words.passkeys.cancelled;
  return name === "InvalidStateError" ? words.passkeys.exists : words.passkeys.failed;
}

// The Signal API: what the service does not know any more need not be offered. Browsers without it go on offering it.
export const signalUnknown = (details) => PublicKeyCredential.signalUnknownCredential?.(details).catch(() => {});
export const signalAccepted = (details) => PublicKeyCredential.signalAllAcceptedCredentials?.(details).catch(() => {});
