// The list of conversations, which lies over the page where the screen is narrow.
import { byId } from "./dom.js";

const narrow = matchMedia("(max-width: 52rem)");

export class Drawer {
  constructor() {
    this.isOpen = false;
    byId("sidebar-toggle").addEventListener("click", () => this.set(!this.isOpen));
    byId("shade").addEventListener("click", () => this.set(false));
    narrow.addEventListener("change", () => this.set(this.isOpen)); // a wide screen needs none
  }

  set(isOpen) {
    const hadFocus = byId("sidebar").contains(document.activeElement);
    this.isOpen = isOpen && narrow.matches;
    document.body.classList.toggle("with-sidebar", this.isOpen);
    byId("sidebar-toggle").setAttribute("aria-expanded", String(this.isOpen));
    byId("main").inert = this.isOpen;
    if (this.isOpen) byId("new").focus();
    else if (hadFocus && narrow.matches) byId("sidebar-toggle").focus();
  }
}
