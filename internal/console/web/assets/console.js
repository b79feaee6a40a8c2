// The page works without any of this: what is here makes it live, and quick for those who use a keyboard.
import { followPage } from "./live.js";
import { listenKeys } from "./keys.js";
import { openPalette, listenPalette } from "./palette.js";
import { listenCopies } from "./copy.js";

const live = followPage();
listenPalette();
listenCopies();
listenKeys({ find: openPalette, pause: () => live.toggle() });

const zone = document.querySelector("[data-zone]");
if (zone) {
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (here && here !== zone.value) {
    zone.value = here;
    const form = new FormData(zone.form);
    fetch(zone.form.action, { method: "POST", headers: { Accept: "application/json" }, body: new URLSearchParams({ zone: form.get("zone") }) }).catch(() => {});
  }
}
