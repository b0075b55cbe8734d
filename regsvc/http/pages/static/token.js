// The token of a link in a mail. It comes in the fragment, which no browser sends; it leaves the address bar at once and is
// kept with this page's place in the tab's history, so that a reload does not lose it.
const SHORTEST = 64; // characters of a token that was ever mailed

export function takeToken() {
  if (location.href.includes("#")) {
    // Some programs take a dot, bracket or quote behind a link for a part of it.
    const token = new URLSearchParams(location.hash.slice(1)).get("t")?.match(/^[\w~.-]*[\w~-]/)?.[0];
    history.replaceState({ token }, "", location.pathname);
  }
  const { token, done } = history.state ?? {};
  return { token, done, complete: Boolean(token) && token.length >= SHORTEST };
}
