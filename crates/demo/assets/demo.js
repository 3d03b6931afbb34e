// Copy buttons, and the sample hub's buttons. Every page works without this file.
"use strict";

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const field = document.getElementById(button.dataset.copy);
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      // Clipboard refused: the text is selected, so the keyboard still copies it.
      return;
    }
    const label = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 1500);
  });
}

for (const button of document.querySelectorAll("button[data-fetch]")) {
  button.hidden = false;
  const output = document.getElementById(button.dataset.output);
  button.addEventListener("click", async () => {
    output.textContent = "…";
    try {
      const answer = await fetch(button.dataset.fetch, { headers: { accept: "application/json" } });
      output.textContent = `${answer.status} ${answer.headers.get("content-type") ?? ""}\n\n${await answer.text()}`;
    } catch (error) {
      output.textContent = `No answer: ${error.message}`;
    }
  });
}

for (const button of document.querySelectorAll("button[data-events]")) {
  button.hidden = false;
  const output = document.getElementById(button.dataset.output);
  let source = null;
  const idle = button.textContent;
  const stop = (line) => {
    source.close();
    source = null;
    button.textContent = idle;
    output.textContent += `${line}\n`;
  };
  button.addEventListener("click", () => {
    if (source) return stop("stopped");
    output.textContent = "";
    button.textContent = "Stop";
    source = new EventSource(button.dataset.events);
    source.onopen = () => (output.textContent += "open\n");
    source.onmessage = (event) => (output.textContent += `${event.data}\n`);
    source.onerror = () => source && stop("refused or ended (a stream can't show its status)");
  });
}

for (const button of document.querySelectorAll("button[data-socket]")) {
  button.hidden = false;
  const output = document.getElementById(button.dataset.output);
  button.addEventListener("click", () => {
    output.textContent = "";
    const address = new URL(button.dataset.socket, location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    socket.onopen = () => socket.send("hello");
    socket.onmessage = (event) => {
      output.textContent += `${event.data}\n`;
      socket.close();
    };
    socket.onclose = (event) => (output.textContent += event.wasClean ? "closed\n" : "refused\n");
  });
}

// A page whose only purpose is to be sent on.
document.querySelector("form[data-send]")?.submit();
