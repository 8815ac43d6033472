/** Plain JSON, the only kind of value that crosses a process, a row or a history. */
export type JsonValue = string | number | boolean | null | JsonValue[] | JsonObject;
export type JsonObject = { [key: string]: JsonValue };
