// Calls of the API. What comes back has `ok` and `status`, beside what the service said.
import { fill, sayMoment, words } from "./words.js";

const SOLUTION = "Regsvc-Solution";

export async function call(method, path, body, headers = {}) {
  try {
    const response = await fetch(path, {
      method,
      headers: { Accept: "application/json", ...(body && { "Content-Type": "application/json" }), ...headers },
      body: body && JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
    });
    const told = response.status === 204 ? {} : await response.json();
    if (told.code === "challenge_needed" && !headers[SOLUTION]) {
      const { solve } = await import("./challenge.js");
      return call(method, path, body, { ...headers, [SOLUTION]: await solve(told.challenge) });
    }
    return { ...told, ok: response.ok, status: response.status, wait: response.headers.get("Retry-After") };
  } catch {
    return { ok: false, status: 0, code: "unreachable" };
  }
}

// What went wrong, for a person: by its code, as the server's own pages have it.
export function explain({ status, code, wait, next_resend_at }) {
  if (status === 0) return words.common.unreachable;
  const text = words.errors[code];
  if (text) return fill(text, { time: next_resend_at && sayMoment(next_resend_at) });
  if (wait && (status === 429 || status === 503)) return fill(words.common.busy, { seconds: wait });
  return words.common.failed;
}
