// Making and updating elements.

export const $ = (id) => document.getElementById(id);

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, unknown>} attributes false, null and undefined leave one out
 * @param {...(Node|string)} children
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined)
      made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Set the text of an element, if it differs: a change that is none would be announced. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/**
 * Let the children of a list be those of some items, each by its key. Elements are kept, so that
 * focus and open forms stay where they are.
 * @param {Element} list
 * @param {Iterable<T>} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => Element} make
 * @param {(made: Element, item: T) => void} update
 * @template T
 */
export function syncChildren(list, items, keyOf, make, update) {
  const before = new Map([...list.children].map((child) => [child.dataset.key, child]));
  let place = list.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = before.get(key);
    before.delete(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else list.insertBefore(child, place);
  }
  for (const child of before.values()) child.remove();
}

/** Return a function that calls another at most once in so many milliseconds. */
export function throttled(ms, call) {
  let timer = null;
  let lastMs = -Infinity;
  const run = () => {
    timer = null;
    lastMs = performance.now();
    call();
  };
  return () => {
    timer ??= setTimeout(run, Math.max(0, lastMs + ms - performance.now()));
  };
}

let styles;

/** The value of a custom property of the page's style. */
export function css(name) {
  styles ??= getComputedStyle(document.documentElement);
  return styles.getPropertyValue(name).trim();
}
