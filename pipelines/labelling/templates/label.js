"use strict";
// Everything works without this file; it adds the keys and keeps one press from answering twice.
let sent = false;
addEventListener("pageshow", () => { sent = false; });
addEventListener("submit", (event) => {
  if (sent) event.preventDefault();
  sent = true;
});
addEventListener("keydown", (event) => {
  const typing = event.target instanceof Element && event.target.closest("textarea, input");
  if (typing && event.key === "Escape") event.target.blur();
  if (typing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  // By the letter, else by the place of the key, for keyboards of other scripts.
  const key = /^[a-z]$/i.test(event.key) ? event.key.toLowerCase() : event.code.replace("Key", "").toLowerCase();
  const target = /^[a-z]$/.test(key) ? document.querySelector(`[data-key="${key}"]`) : null;
  if (!target) return;
  event.preventDefault();
  if (target.tagName === "BUTTON") target.click();
  else target.focus();
});
// A page that was loaded whole announces nothing by itself: have a screen reader told where it is.
addEventListener("DOMContentLoaded", () => {
  const live = document.querySelector(".live");
  if (!live) return;
  const flash = document.querySelector(".flash").textContent;
  setTimeout(() => { live.textContent = `${document.title.split(" · ")[0]}. ${flash}`; }, 100);
});
