// Makes elements. Text is only ever set as text: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element.
 * @param {string} tag  its name, with classes behind dots: "button.quiet"
 * @param {object} [properties]  attributes; a function is a listener; false is none
 * @param {...(Node|string|null|false)} children
 */
export function element(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  made.classList.add(...classes);
  for (const [key, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") made.addEventListener(key, value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== false));
  return made;
}

/** Draw one of the icons that index.html holds; it means nothing to a screen reader. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** Make a button with an icon, a text, or both. */
export function button(text, { icon: iconName, ...properties } = {}) {
  const { class: classes = "quiet", ...others } = properties;
  return element(
    `button.${classes}`,
    { type: "button", ...others },
    iconName ? icon(iconName) : null,
    element("span", {}, text),
  );
}

/** Make a button whose text is for screen readers and as a tip, and whose icon is for eyes. */
export function iconButton(text, iconName, properties = {}) {
  return element(
    "button.icon-only",
    { type: "button", title: text, "aria-label": text, ...properties },
    icon(iconName),
  );
}

/** Text for screen readers alone. */
export function unseen(text) {
  return element("span.unseen", {}, text);
}
