// Pictures coming in: chosen, dropped anywhere, or pasted.

import { at } from "./dom.js";

/** Call `take(file)` with each picture given, `refuse(message)` with what is wrong with anything else. */
export function listenForPictures(limits, take, refuse) {
  const look = (files) => {
    const file = [...(files ?? [])][0];
    if (!file) return;
    const wrong = problemOf(file, limits());
    if (wrong) refuse(wrong);
    else take(file);
  };
  at("file").addEventListener("change", (event) => {
    look(event.target.files);
    event.target.value = "";
  });
  addEventListener("paste", (event) => event.clipboardData?.files.length && look(event.clipboardData.files));
  listenForDrops(look);
}

function problemOf(file, limits) {
  if (file.type && !file.type.startsWith("image/")) return `\u201c${file.name}\u201d is not a picture. JPEG, PNG, WebP, GIF, BMP and TIFF can be searched with.`;
  const most = limits?.upload_bytes;
  if (most && file.size > most) return `\u201c${file.name}\u201d has ${Math.ceil(file.size / 1e6)} MB; this server takes pictures of up to ${Math.floor(most / 1e6)} MB.`;
  return file.size ? null : `\u201c${file.name}\u201d is empty.`;
}

function listenForDrops(look) {
  const body = document.body;
  const brings = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!brings(event)) return;
    event.preventDefault();
    body.classList.add("is-dropping");
  });
  addEventListener("dragleave", (event) => event.relatedTarget ?? body.classList.remove("is-dropping"));
  addEventListener("drop", (event) => {
    body.classList.remove("is-dropping");
    if (!brings(event)) return;
    event.preventDefault();
    look(event.dataTransfer.files);
  });
}
