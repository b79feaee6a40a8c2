// Keys: / filters, j and k move between rows, Enter opens one, p pauses, ? helps, Ctrl or Cmd and K finds.

// listenKeys calls what the keys do.
export function listenKeys({ find, pause }) {
  const help = document.getElementById("help");
  const button = document.querySelector("[data-help]");
  const open = () => help && help.showModal();
  if (button && help) {
    button.hidden = false;
    button.addEventListener("click", open);
  }
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      find();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog[open]")) return;
    const run = { "/": filter, j: () => move(1), k: () => move(-1), p: pause, "?": open }[event.key];
    if (run) {
      event.preventDefault();
      run();
    }
  });
}

function filter() {
  const field = document.querySelector("main form.bar input:not([type=hidden]), main form.bar select") || document.getElementById("find");
  if (field) field.focus();
}

// move goes to the next row that leads somewhere, and focuses what it leads to.
function move(step) {
  const rows = [...document.querySelectorAll("main tbody tr")].filter((row) => row.querySelector("a"));
  if (rows.length === 0) return;
  const now = rows.findIndex((row) => "at" in row.dataset);
  const next = rows[Math.min(Math.max(now + step, 0), rows.length - 1)];
  if (now >= 0) delete rows[now].dataset.at;
  next.dataset.at = "";
  next.querySelector("a").focus();
  next.scrollIntoView({ block: "nearest" });
}
