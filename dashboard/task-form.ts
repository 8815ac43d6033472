import type { JsonObject, JsonValue } from '../contract/json.js';
import type { ModelListView } from '../contract/schemas/model.js';
import type { TemplateDetailView } from '../contract/schemas/template-view.js';
import { bytes, count } from './format.js';

type FormField = TemplateDetailView['form'][number];

/** A field as it is drawn; `browser/template.js` reads it back by the same names. */
export interface DrawnField {
  readonly name: string;
  readonly label: string;
  readonly type: FormField['type'];
  /** `choice`: yes, no or nothing, for a truth that may be absent */
  readonly widget: FormField['widget'] | 'choice';
  readonly required: boolean;
  readonly description: string;
  /** what may stand there, and what is taken where nothing does */
  readonly hint: string;
  /** of the control; a ticked box is `true` */
  readonly text: string;
  /** whether the template has a default, so that a field that was emptied is not one that was left alone */
  readonly defaulted: boolean;
  readonly min: number | null;
  readonly max: number | null;
  /** a pattern for the control that matches where that of the template does; null: only the server tries it */
  readonly pattern: string | null;
  readonly options: readonly string[];
}

/** A model that a field offers. */
export interface ModelChoice {
  readonly name: string;
  /** such as `1.2 GiB, in memory` */
  readonly detail: string;
  readonly loaded: boolean;
}

/**
 * The fields of a form.
 * @param given values to begin with, of an earlier task; the defaults fill in the rest
 * @param models the first choice where one model is asked for and only one is likely
 */
export function drawnFields(form: readonly FormField[], given: JsonObject, models: readonly ModelChoice[]): DrawnField[] {
  // Where several models are asked for, they are meant to differ.
  const several = form.filter(({ widget }) => widget === 'model').length > 1;
  const likely = several ? '' : likelyModel(models);
  return form.map((field) => drawnField(field, given, likely));
}

function drawnField(field: FormField, given: JsonObject, likely: string): DrawnField {
  const { name, label, type, required, description = '', min = null, max = null, enum: values = [] } = field;
  const fallback = field.default as JsonValue | undefined;
  const value = Object.hasOwn(given, name) ? given[name] : fallback;
  const text = value === undefined || value === null ? '' : textOf(field.widget, value);
  const widget = widgetOf(field, text);
  return {
    name,
    label,
    type,
    widget,
    required,
    description,
    hint: hintOf(field),
    text: text === '' && widget === 'model' && field.required ? likely : text,
    defaulted: fallback !== undefined,
    min,
    max,
    pattern: field.pattern === undefined ? null : controlPattern(field.pattern),
    options: values.map(String),
  };
}

/** A line of input would drop the line breaks of a text. */
function widgetOf({ widget, required, default: fallback }: FormField, text: string): DrawnField['widget'] {
  if (widget === 'text' && /[\n\r]/.test(text)) return 'textarea';
  if (widget === 'checkbox' && !required && fallback === undefined) return 'choice';
  return widget;
}

function textOf(widget: FormField['widget'], value: JsonValue): string {
  switch (widget) {
    case 'list':
    case 'files':
      return Array.isArray(value) ? listText(value) : '';
    case 'json':
      return JSON.stringify(value, null, 2);
    default:
      return typeof value === 'object' ? '' : String(value);
  }
}

/** One item per line where that says it all, else JSON. */
export function listText(items: readonly JsonValue[]): string {
  const plain = items.every((item) => typeof item === 'string' && item.trim() === item && item !== '' && !/[\n\r]/.test(item));
  const text = plain ? items.join('\n') : JSON.stringify(items, null, 2);
  return plain && text.startsWith('[') && text.endsWith(']') ? JSON.stringify(items, null, 2) : text;
}

function hintOf({ type, widget, min, max, default: fallback, required }: FormField): string {
  const unit = type === 'string' ? 'character' : type === 'array' ? 'item' : '';
  const amount = (value: number) => (unit === '' ? String(value) : `${count(value)} ${unit}${value === 1 ? '' : 's'}`);
  const bounds =
    min !== undefined && max !== undefined
      ? `${unit === '' ? min : count(min)} to ${amount(max)}`
      : min !== undefined
        ? `at least ${amount(min)}`
        : max !== undefined
          ? `at most ${amount(max)}`
          : '';
  // Nobody counts the one character of a text that has to be there.
  const told = required && min === 1 && max === undefined ? '' : bounds;
  const shape =
    widget === 'list' ? 'one per line, or a JSON list' : widget === 'files' ? 'one path or pattern per line' : widget === 'json' ? 'a JSON object' : '';
  const short =
    fallback === undefined || typeof fallback === 'object' || String(fallback).length > 40 || String(fallback) === '' ? '' : `default ${String(fallback)}`;
  return [shape, told, short].filter((part) => part !== '').join(', ');
}

/** The pattern of a template has to match somewhere, that of a control as a whole; browsers read theirs by the stricter rules of the flag `v`. */
export function controlPattern(pattern: string): string | null {
  const whole = `.*(?:${pattern}).*`;
  try {
    new RegExp(whole, 'v');
    return whole;
  } catch {
    return null;
  }
}

/** The models that hosts have, those in memory first, and the configured short names. */
export function modelChoices({ items, aliases }: Pick<ModelListView, 'items' | 'aliases'>): ModelChoice[] {
  const byName = new Map<string, ModelListView['items'][number][]>();
  for (const model of items) byName.set(model.name, [...(byName.get(model.name) ?? []), model]);
  const installed = [...byName].map(([name, copies]): ModelChoice => {
    const sizes = copies.flatMap(({ size_bytes: size }) => (size === null ? [] : [size]));
    const loaded = copies.some((copy) => copy.loaded);
    const fetched = sizes.length === 0 && copies.some(({ pull }) => pull !== null);
    const parts = [sizes.length === 0 ? '' : bytes(Math.max(...sizes)), loaded ? 'in memory' : '', fetched ? 'being fetched' : ''];
    return { name, detail: parts.filter((part) => part !== '').join(', '), loaded };
  });
  const sorted = installed.sort((a, b) => Number(b.loaded) - Number(a.loaded) || (a.name < b.name ? -1 : 1));
  return [...sorted, ...aliases.map(({ alias, name }) => ({ name: alias, detail: `short for ${name}`, loaded: false }))];
}

/** The only model, or the only one in memory; none where a person has to choose. */
function likelyModel(models: readonly ModelChoice[]): string {
  const loaded = models.filter((model) => model.loaded);
  const [only] = loaded.length === 1 ? loaded : models.length === 1 ? models : [];
  return only?.name ?? '';
}
