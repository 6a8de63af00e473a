// What both pages share: elements, the line at the top, requests. All text goes in as text, never as markup.
"use strict";

const $ = (id) => document.getElementById(id);

function say(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

const sayFault = (error) =>
  say(error instanceof TypeError ? "The server cannot be reached; is it still running?" : error.message);

async function answered(response) {
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Error(told.error || `the server answers ${response.status}`);
}

const post = async (path, asked, signal) =>
  answered(
    await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(asked),
      signal,
    }),
  );
