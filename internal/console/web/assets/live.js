// A live page: the server sends the page's content whenever it differs, and what differs is put in place, so that nothing jumps.

// followPage follows the page if it is live. The returned toggle pauses and resumes.
export function followPage() {
  const main = document.getElementById("main");
  const button = document.querySelector("[data-pause]");
  const said = document.getElementById("said");
  let source = null;
  let paused = false;
  let waiting = null;

  const take = (html) => {
    const page = new DOMParser().parseFromString("<main>" + html + "</main>", "text/html");
    settle(main, page.querySelector("main"));
  };
  // While a person selects text or fills in a form, news wait.
  const busy = () => {
    const chosen = document.getSelection();
    return (chosen && !chosen.isCollapsed && main.contains(chosen.anchorNode)) || editing(main);
  };
  const open = () => {
    source = new EventSource(location.href);
    source.addEventListener("content", (event) => {
      if (busy()) {
        waiting = event.data;
        return;
      }
      waiting = null;
      take(JSON.parse(event.data));
    });
    source.addEventListener("signed-out", () => location.reload());
  };
  const close = () => {
    if (source) source.close();
    source = null;
  };
  const toggle = () => {
    if (!button || button.hidden) return;
    paused = !paused;
    button.textContent = paused ? button.dataset.textResume : button.dataset.textPause;
    said.textContent = button.textContent;
    if (paused) close();
    else open();
  };
  if (!("live" in document.body.dataset) || !button) return { toggle: () => {} };
  button.hidden = false;
  button.addEventListener("click", toggle);
  main.addEventListener("focusout", () => {
    setTimeout(() => {
      if (waiting && !busy()) {
        take(JSON.parse(waiting));
        waiting = null;
      }
    });
  });
  document.addEventListener("visibilitychange", () => {
    if (paused) return;
    if (document.hidden) close();
    else if (!source) open();
  });
  addEventListener("pagehide", close);
  open();
  return { toggle };
}

// editing reports whether a person writes into a form, or opened one.
function editing(main) {
  const at = document.activeElement;
  if (main.contains(at) && at.matches("input, select, textarea")) return true;
  return main.querySelector("details.act[open]") !== null;
}

// settle makes the children of one element like those of another, and leaves alone what is alike.
function settle(into, from) {
  const known = new Map();
  for (const child of into.children) if (child.id) known.set(child.id, child);
  let at = into.firstChild;
  for (const next of [...from.childNodes]) {
    let have = at;
    if (next.id && known.has(next.id)) {
      have = known.get(next.id);
      if (have !== at) into.insertBefore(have, at);
      else at = at.nextSibling;
    } else if (have && alike(have, next) && !(have.id && have.id !== next.id)) {
      at = at.nextSibling;
    } else {
      into.insertBefore(document.importNode(next, true), at);
      continue;
    }
    patch(have, next);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function alike(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName;
}

function patch(have, next) {
  if (have.nodeType !== Node.ELEMENT_NODE) {
    if (have.nodeValue !== next.nodeValue) have.nodeValue = next.nodeValue;
    return;
  }
  if (have.isEqualNode(next)) return;
  // What a person entered stays; the value of a hidden field belongs to the text around it.
  const entered = { hidden: [], checkbox: ["checked"], radio: ["checked"] }[have.type] || ["value", "checked"];
  const keep = { DETAILS: ["open"], DIALOG: ["open"], INPUT: entered, OPTION: ["selected"], TR: ["data-at", "tabindex"] }[have.nodeName] || [];
  for (const name of have.getAttributeNames()) if (!next.hasAttribute(name) && !keep.includes(name)) have.removeAttribute(name);
  for (const name of next.getAttributeNames()) {
    if (have.getAttribute(name) !== next.getAttribute(name) && !keep.includes(name)) have.setAttribute(name, next.getAttribute(name));
  }
  if (have.nodeName !== "TEXTAREA") settle(have, next);
}
