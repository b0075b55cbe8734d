// Posts a provider's answer, once. The answer leaves the address at once. Browsers usually keep no entry of a page that
// goes on while it is loading; in one that does, going back must not post it again.
const onward = () => location.replace("/login");
const [arrival] = performance.getEntriesByType("navigation");

history.replaceState(null, "", location.pathname);
if (arrival?.type === "back_forward") onward();
else document.getElementById("return").submit();
addEventListener("pageshow", ({ persisted }) => persisted && onward());
