// Talking to the server this page is from. The key, if it wants one, lives as long as the tab.

const KEY = "agentkit.key";

export class ApiError extends Error {
  constructor(status, message, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export class Api {
  /** @param {(message: string) => Promise<string|null>} askForKey Asks the user for a key. */
  constructor(askForKey) {
    this.askForKey = askForKey;
  }

  get key() {
    return sessionStorage.getItem(KEY) || "";
  }

  set key(value) {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  }

  get(path) {
    return this.json("GET", path);
  }

  async json(method, path, body) {
    return (await this.fetch(method, path, body)).json();
  }

  /** The events of a run as they come. Ends with the stream; raises what the server reports. */
  async *events(path, body, signal) {
    const response = await this.fetch("POST", path, { ...body, stream: true }, signal);
    for await (const { event, data } of serverSentEvents(response.body)) {
      if (event === "error") throw failure(200, data);
      yield data;
    }
  }

  async fetch(method, path, body, signal) {
    for (;;) {
      const headers = {};
      if (this.key) headers.authorization = `Bearer ${this.key}`;
      if (body !== undefined) headers["content-type"] = "application/json";
      let response;
      try {
        response = await fetch(path, {
          method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
          credentials: "omit", cache: "no-store", redirect: "error",
        });
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new ApiError(0, "The server cannot be reached.", "unreachable");
      }
      if (response.ok) return response;
      const error = failure(response.status, await response.json().catch(() => null));
      if (response.status !== 401) throw error;
      const key = await this.askForKey(this.key ? "That key is not valid." : "");
      if (!key) throw error;
      this.key = key;
    }
  }
}

function failure(status, data) {
  const error = data?.error ?? {};
  return new ApiError(status, error.message || `The server answered ${status}.`, error.code || "");
}

/** Parses a body of server-sent events, whose data are JSON. */
export async function* serverSentEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      buffer += value;
      let end;
      while ((end = buffer.indexOf("\n\n")) >= 0) {
        const block = buffer.slice(0, end);
        buffer = buffer.slice(end + 2);
        let event = "message";
        const data = [];
        for (const line of block.split("\n")) {
          if (line.startsWith("event: ")) event = line.slice(7);
          else if (line.startsWith("data: ")) data.push(line.slice(6));
        }
        if (data.length) yield { event, data: JSON.parse(data.join("\n")) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
