// The mailbox of `dev`: new mail appears by itself, and a code is copied at a press.
const copy = document.getElementById("copy");
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

copy?.addEventListener("click", async () => {
  await navigator.clipboard.writeText(copy.dataset.code);
  copy.firstChild.textContent = "Copied ";
});

async function watch() {
  for (let list = document.getElementById("mails"); list; ) {
    try {
      const answer = await fetch(`/dev/mail/news?version=${list.dataset.version}`, { cache: "no-store" });
      if (answer.status === 200) list = show(list, await answer.text());
      else if (answer.status !== 204) await pause(2000);
    } catch {
      await pause(2000);
    }
  }
}

function show(list, html) {
  const news = new DOMParser().parseFromString(html, "text/html").getElementById("mails");
  const known = new Set([...list.querySelectorAll("a")].map(({ href }) => href));
  let fresh = 0;
  for (const link of news.querySelectorAll("a[href^='/dev/mail/']")) {
    if (link.getAttribute("href") === decodeURI(location.pathname)) link.setAttribute("aria-current", "page");
    if (known.has(link.href)) continue;
    link.dataset.fresh = "";
    fresh += 1;
  }
  const empty = !list.querySelector("time");
  list.replaceWith(news);
  if (fresh) document.getElementById("news").textContent = `${fresh} new`;
  if (empty && fresh) location.reload(); // the first mail of all: show it
  return news;
}

for (const time of document.querySelectorAll("time")) time.title = new Date(time.dateTime).toLocaleString();
watch();
