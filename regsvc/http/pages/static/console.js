// The console: moments in the reader's own time, and an overview that stays true while it is looked at.
const EVERY = 5000;
const day = new Intl.DateTimeFormat("en", { dateStyle: "medium" });
const moment = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "medium" });

function sayMoments() {
  for (const time of document.querySelectorAll("time")) {
    time.textContent = (time.className === "day" ? day : moment).format(new Date(time.dateTime));
  }
}

async function refresh() {
  const live = document.getElementById("live");
  if (!live || document.hidden || live.contains(document.activeElement)) return; // nobody looks, or somebody is at a button
  const answer = await fetch("/admin", { cache: "no-store" });
  if (!answer.ok || answer.redirected) return location.reload();
  live.replaceWith(new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live"));
  sayMoments();
}

sayMoments();
if (document.getElementById("live")) setInterval(() => refresh().catch(() => {}), EVERY);
