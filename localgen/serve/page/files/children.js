// The children of a node, one for each part of some data. Parts that stay keep their nodes: what grows
// at its end then costs little, and what is selected in it stays so.

export class Children {
  // make(part) returns a node. grow(node, before, part) changes it in place and returns whether it did.
  constructor(parent, make, grow = () => false) {
    this.parent = parent;
    this.make = make;
    this.grow = grow;
    this.shown = []; // {key, part, node} of each part
  }

  update(parts) {
    parts.forEach((part, n) => this.show(n, part));
    for (const { node } of this.shown.splice(parts.length)) node.remove();
  }

  show(n, part) {
    const key = JSON.stringify(part);
    const old = this.shown[n];
    if (old?.key === key) return;
    const isGrown = old !== undefined && this.grow(old.node, old.part, part);
    const node = isGrown ? old.node : this.make(part);
    if (!old) this.parent.append(node);
    else if (!isGrown) old.node.replaceWith(node);
    this.shown[n] = { key, part, node };
  }
}
