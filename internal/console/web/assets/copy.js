// Buttons that copy: <button data-copy="ID"> copies the text of the element with that id.

// listenCopies shows the buttons where there is a clipboard.
export function listenCopies() {
  if (!navigator.clipboard) return;
  const show = () => document.querySelectorAll("[data-copy][hidden]").forEach((button) => (button.hidden = false));
  show();
  new MutationObserver(show).observe(document.getElementById("main"), { childList: true, subtree: true });
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    const from = button && document.getElementById(button.dataset.copy);
    if (!from) return;
    await navigator.clipboard.writeText(from.textContent);
    document.getElementById("said").textContent = button.dataset.done || button.textContent;
  });
}
