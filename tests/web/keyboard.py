"""A page by keyboard alone: Tab reaches everything, the focus can be seen, and nothing keeps it or covers it."""

from __future__ import annotations

from playwright.sync_api import Page

LIST = """() => {
  const inside = (one) => one.shadowRoot ? [one, ...deep(one.shadowRoot)] : [one];
  const deep = (root) => [...root.querySelectorAll("*")].flatMap(inside);
  const groups = new Set();
  window.reached = new Set();
  window.reachable = deep(document).filter((one) => {
    if (one.tabIndex < 0 || one.disabled || !one.checkVisibility({ visibilityProperty: true })) return false;
    if (one.type !== "radio") return !one.matches("html, dialog");
    const chosen = document.querySelector(`input[type=radio][name="${one.name}"]:checked`);
    if (groups.has(one.name) || (chosen && chosen !== one)) return false;
    groups.add(one.name);
    return true;
  });
  document.activeElement?.blur();
  getSelection().removeAllRanges();
  scrollTo(0, 0);
  return window.reachable.length;
}"""
LOOK = """async () => {
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  let one = document.activeElement;
  while (one?.shadowRoot?.activeElement) one = one.shadowRoot.activeElement;
  if (!one || one === document.body) return null;
  const isNew = !window.reached.has(one);
  window.reached.add(one);
  let isMarked = false;
  for (let each = one, steps = 0; each && steps < 6; each = each.parentElement || each.getRootNode().host, steps++) {
    const style = getComputedStyle(each);
    isMarked ||= style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  }
  const box = one.getBoundingClientRect();
  const x = Math.min(Math.max(box.left + box.width / 2, 0), innerWidth - 1);
  const y = box.top + Math.min(box.height, innerHeight) / 2;
  let over = document.elementFromPoint(x, y);
  while (over?.shadowRoot?.elementFromPoint(x, y)) over = over.shadowRoot.elementFromPoint(x, y);
  const parts = [one, ...(one.labels || [])];
  const isSeen = over && (over.contains(one) || parts.some((part) => part.contains(over)));
  const name = one.id || one.getAttribute("aria-label") || one.textContent;
  return {
    name: `${one.tagName.toLowerCase()} ${name.trim().slice(0, 40)}`,
    isNew, isMarked, isSeen, over: over ? over.outerHTML.slice(0, 60) : "the edge of the screen",
  };
}"""
LEFT = "() => window.reachable.filter((one) => one.isConnected && !window.reached.has(one)).map((one) => one.outerHTML)"
STAYS = 5
"""One field may take so many presses: a day has a day, a month, a year and a button."""


def walk(page: Page) -> list[str]:
    """Press Tab through the page as it is, and say what is wrong, a line each."""
    page.emulate_media(reduced_motion="reduce")
    found, stayed = [], 0
    for _ in range(page.evaluate(LIST) + 40):
        page.keyboard.press("Tab")
        at = page.evaluate(LOOK)
        if at is None:
            continue
        if not at["isNew"]:
            stayed += 1
            if stayed > STAYS:
                break
            continue
        stayed = 0
        if not at["isMarked"]:
            found.append(f"focus cannot be seen: {at['name']}")
        if not at["isSeen"]:
            found.append(f"focus is covered: {at['name']} by {at['over']}")
    return found + [f"Tab does not lead to {html[:100]}" for html in page.evaluate(LEFT)]
