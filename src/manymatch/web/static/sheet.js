// A dialog that stands beside the page on a desk, where the page stays usable, and rises over it on a phone.

const phone = matchMedia("(max-width: 899px)");

/**
 * Make `dialog` such a sheet. `leave()` is called when the visitor closes it; `mark` is the class the body has while it
 * stands beside the page. Returns {show(), hide(then), isOpen()}; the focus goes back to where it was, or to `then`.
 */
export function sheet(dialog, { leave, mark }) {
  let before = null;
  dialog.addEventListener("cancel", (event) => (event.preventDefault(), leave()));
  dialog.addEventListener("click", (event) => event.target === dialog && leave());
  phone.addEventListener("change", () => dialog.open && (dialog.close(), appear()));
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !dialog.open || phone.matches || event.defaultPrevented) return;
    if (!dialog.contains(document.activeElement) && document.activeElement?.matches("input, textarea, select")) return;
    event.preventDefault();
    leave();
  });

  function appear() {
    document.body.classList.toggle(mark, !phone.matches);
    if (dialog.open) return;
    if (phone.matches) dialog.showModal();
    else dialog.show();
  }

  return {
    isOpen: () => dialog.open,
    show() {
      if (!dialog.open) before = document.activeElement;
      appear();
    },
    hide(then = null) {
      if (!dialog.open) return;
      dialog.close();
      document.body.classList.remove(mark);
      const next = then ?? before;
      if (next?.isConnected) next.focus({ preventScroll: true });
    },
  };
}
