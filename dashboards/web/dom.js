// Elements are kept and changed in place, so that focus, selection and a screen reader's position survive each second.

export const $ = (id) => document.getElementById(id);

export function setText(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

export function make(name, css = "", text = "") {
  const node = document.createElement(name);
  if (css) node.className = css;
  if (text) node.textContent = text;
  return node;
}

/** Keeps one child for each item, in order; a child is made once and then only updated. */
export function keyed(parent, items, keyOf, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const seen = new Map();
  let before = parent.firstElementChild;
  for (const item of items) {
    // Two items with one key (alerts of two rules with the same labels) are told apart by their order.
    const times = (seen.get(keyOf(item)) ?? 0) + 1;
    seen.set(keyOf(item), times);
    const key = times === 1 ? keyOf(item) : `${keyOf(item)} ${times}`;
    let child = known.get(key);
    if (child === undefined) {
      child = create(item);
      child.dataset.key = key;
    }
    known.delete(key);
    if (child === before) before = before?.nextElementSibling ?? null;
    else parent.insertBefore(child, before);
    update(child, item);
  }
  for (const child of known.values()) child.remove();
}
