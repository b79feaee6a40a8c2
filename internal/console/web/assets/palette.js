// The palette finds datasets, records, nodes and jobs. The server finds; /find is a page of its own as well.

const palette = document.getElementById("palette");
const field = document.getElementById("palette-q");
const list = document.getElementById("palette-list");

// openPalette shows the palette.
export function openPalette() {
  if (!palette || palette.open) return;
  palette.showModal();
  field.select();
  search();
}

// listenPalette makes the header's field open the palette, and its keys work.
export function listenPalette() {
  if (!palette) return;
  const head = document.querySelector("[data-palette]");
  head.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    openPalette();
  });
  let timer = 0;
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, 120);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      mark(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Enter") {
      event.preventDefault();
      const at = list.querySelector("[data-at]") || list.querySelector("a");
      if (at) location.href = at.href;
    }
  });
}

let asked = 0;
async function search() {
  const mine = ++asked;
  try {
    const answer = await fetch(palette.dataset.find + "?part=list&q=" + encodeURIComponent(field.value), { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (mine !== asked || !answer.ok) return;
    list.replaceChildren(...page.body.childNodes);
    mark(1);
  } catch {
    // The page is being left, or the server is away; the next key tries again.
  }
}

function mark(step) {
  const links = [...list.querySelectorAll("a")];
  if (links.length === 0) return;
  const now = links.findIndex((link) => "at" in link.dataset);
  if (now >= 0) delete links[now].dataset.at;
  const next = links[(now + step + links.length) % links.length];
  next.dataset.at = "";
  next.scrollIntoView({ block: "nearest" });
}
