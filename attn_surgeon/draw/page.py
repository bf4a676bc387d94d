"""Write an SVG of Graphviz as a self-contained HTML page, with panning, zooming and tooltips."""

from __future__ import annotations

import re
from html import escape

_STYLE = """
html, body { margin: 0; height: 100%; overflow: hidden; background: #ffffff; }
body > svg { width: 100vw; height: 100vh; cursor: grab; touch-action: none; }
.node:not(.connector) { cursor: pointer; }
.node:hover polygon { filter: brightness(0.95); }
#tip { position: fixed; display: none; max-width: 40em; padding: 8px 12px; border-radius: 6px; background: #17202c;
  color: #ffffff; font: 13px/1.5 monospace; white-space: pre-wrap; pointer-events: none; overflow-wrap: anywhere; }
#help { position: fixed; right: 12px; bottom: 8px; color: #5d6b7c; font: 12px sans-serif; }
"""

_SCRIPT = """
const svg = document.querySelector('svg'), tip = document.getElementById('tip');
const whole = svg.getAttribute('viewBox').split(' ').map(Number);
const tips = new Map(), names = new Map();
for (const shape of svg.querySelectorAll('.node, .edge')) {
  const link = shape.querySelector('a');
  if (link) tips.set(shape, link.getAttribute('xlink:title'));
  if (shape.matches('.node:not(.connector)')) names.set(shape, shape.querySelector('title').textContent);
}
for (const link of svg.querySelectorAll('a')) link.removeAttribute('xlink:title');
for (const title of svg.querySelectorAll('title')) title.remove();
let view = whole.slice(), held = null, moved = false;
const show = () => svg.setAttribute('viewBox', view.join(' '));
const scale = () => Math.max(view[2] / svg.clientWidth, view[3] / svg.clientHeight);
svg.removeAttribute('width'); svg.removeAttribute('height');
svg.addEventListener('wheel', event => {
  event.preventDefault();
  const by = Math.exp(event.deltaY * 0.0015), box = svg.getBoundingClientRect(), s = scale();
  const x = view[0] + view[2] / 2 + (event.clientX - box.left - box.width / 2) * s;
  const y = view[1] + view[3] / 2 + (event.clientY - box.top - box.height / 2) * s;
  view = [x + (view[0] - x) * by, y + (view[1] - y) * by, view[2] * by, view[3] * by];
  show();
}, {passive: false});
svg.addEventListener('pointerdown', event => { held = [event.clientX, event.clientY]; moved = false; });
addEventListener('pointerup', () => { held = null; });
addEventListener('pointermove', event => {
  if (held) {
    const s = scale(), dx = event.clientX - held[0], dy = event.clientY - held[1];
    moved = moved || Math.abs(dx) + Math.abs(dy) > 3;
    view[0] -= dx * s; view[1] -= dy * s; held = [event.clientX, event.clientY];
    show();
  }
  const shape = event.target.closest ? event.target.closest('.node, .edge') : null;
  tip.style.display = tips.has(shape) ? 'block' : 'none';
  if (!tips.has(shape)) return;
  tip.textContent = tips.get(shape);
  tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + 'px';
  tip.style.top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8) + 'px';
});
svg.addEventListener('click', event => {
  const name = names.get(event.target.closest('.node'));
  if (!name || moved) return;
  const field = document.createElement('textarea');
  field.value = name;
  document.body.append(field); field.select(); document.execCommand('copy'); field.remove();
  tip.textContent = 'copied: ' + name;
});
svg.addEventListener('dblclick', () => { view = whole.slice(); show(); });
"""


def page(svg: str, title: str) -> str:
    """Return an HTML page that shows an SVG, without its XML prolog and namespaces, which inline SVG does not need."""
    drawing = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg[svg.index("<svg") :], count=2)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>{drawing}<div id='tip'></div>"
        f"<div id='help'>drag to move · wheel to zoom · click a node to copy its name · double-click to see all</div>\n"
        f"<script>{_SCRIPT}</script></body></html>\n"
    )
