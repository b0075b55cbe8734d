// Moments of a page in the reader's own time.
import { fill, sayMoment } from "./words.js";

for (const time of document.querySelectorAll("time[data-text]")) {
  time.textContent = fill(time.dataset.text, { time: sayMoment(time.dateTime) });
}
