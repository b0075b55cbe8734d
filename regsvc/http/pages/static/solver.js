// Solves a challenge: finds the number whose SHA-256, with salt and nonce before it, begins as asked (ALTCHA, version 2).
// In a worker it solves what it is sent; a page without workers calls `search` piece by piece. Browsers hash by
// themselves at secure origins alone, and more slowly: each call of theirs is a promise.
const ROUNDS = 64;
const PRIMES = [];
for (let n = 2; PRIMES.length < ROUNDS; n++) if (PRIMES.every((prime) => n % prime)) PRIMES.push(n);
const fraction = (x) => ((x % 1) * 2 ** 32) | 0;
const K = Int32Array.from(PRIMES, (prime) => fraction(Math.cbrt(prime)));
const START = Int32Array.from(PRIMES.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));
const w = new Int32Array(ROUNDS);
const hash = new Int32Array(8);

const readWords = (hex) => hex.match(/.{8}/g).map((word) => parseInt(word, 16) | 0);

export const writeHex = (words) => [...words].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");

// One block of SHA-256 (FIPS 180-4, 6.2.2) over the first 16 words of `w`, into `hash`.
function compress() {
  for (let i = 16; i < ROUNDS; i++) {
    const x = w[i - 15];
    const y = w[i - 2];
    const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
  }
  let [a, b, c, d, e, f, g, h] = START;
  for (let i = 0; i < ROUNDS; i++) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + t1) | 0;
    d = c;
    c = b;
    b = a;
    a = (t1 + t2) | 0;
  }
  const sums = [a, b, c, d, e, f, g, h];
  for (let i = 0; i < 8; i++) hash[i] = (START[i] + sums[i]) | 0;
}

// Tries `count` numbers and returns the solution, or null.
export function search({ salt, nonce, keyPrefix }, from, count) {
  const given = [...readWords(salt), ...readWords(nonce)];
  const wanted = readWords(keyPrefix);
  const length = given.length + 1; // words of the message
  for (let counter = from; counter < from + count; counter++) {
    w.fill(0);
    w.set(given);
    w[length - 1] = counter;
    w[length] = 0x80000000;
    w[15] = length * 32;
    compress();
    if (hash[0] === wanted[0] && wanted.every((word, i) => hash[i] === word)) {
      return { counter, derivedKey: writeHex(hash) };
    }
  }
  return null;
}

if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope) {
  self.addEventListener("message", ({ data }) => self.postMessage(search(data, 0, 2 ** 32)));
}
