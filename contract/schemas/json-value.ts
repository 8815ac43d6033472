import { z } from 'zod';
import type { JsonObject } from '../json.js';

/**
 * Any JSON object, taken as it is. The API has already refused what is no plain JSON (depth, `__proto__`, NUL, lone surrogates)
 * while it read the body, so that walking the value again would only cost time.
 */
export const JsonObjectSchema = z
  .custom<JsonObject>((value) => typeof value === 'object' && value !== null && !Array.isArray(value), { error: 'expected an object' })
  .meta({ type: 'object', additionalProperties: true });
