import { z } from 'zod';

/** What is known of a key beside the form of its value. */
export interface KeyFacts {
  /** for the documentation: what it decides, with its unit */
  readonly means: string;
  /** environment variable that sets it; wins over the file */
  readonly variable?: string;
  /** never shown, nor stored in readable form */
  readonly secret?: boolean;
  /**
   * The part that reads it is not built. `told when changed`: a start says so when another value than the default is set.
   * `told when set`: whenever it is set, since who sets it would believe himself safe.
   */
  readonly notInForce?: 'told when changed' | 'told when set';
  /** values that are in force all the same */
  readonly inForceAs?: readonly string[];
  /** default in words, where it is worked out or chosen by the program */
  readonly unset?: string;
}

const facts = new WeakMap<z.ZodType, KeyFacts>();
const shapes = new WeakMap<z.ZodType, z.ZodRawShape>();

/** A key with what is known of it. */
export function key<Type extends z.ZodType>(type: Type, means: string, more: Omit<KeyFacts, 'means'> = {}): Type {
  facts.set(type, { means, ...more });
  return type;
}

/** Keys under a common name; a section that is not there is an empty one. */
export function section<Shape extends z.ZodRawShape>(shape: Shape) {
  const type = z.preprocess((value) => value ?? {}, z.strictObject(shape));
  shapes.set(type, shape);
  return type;
}

/** A key as it is declared. */
export interface DeclaredKey extends KeyFacts {
  /** such as `['api', 'port']` */
  readonly path: readonly string[];
  /** what it is when nobody sets it; undefined when the program decides */
  readonly default: unknown;
}

/** Every key below a section, in its order. @throws for a key that was declared without {@link key} */
export function keysOf(shape: Readonly<Record<string, unknown>>, path: readonly string[] = []): DeclaredKey[] {
  return Object.entries(shape).flatMap(([name, type]): DeclaredKey[] => {
    const here = [...path, name];
    const inner = shapes.get(type as z.ZodType);
    if (inner !== undefined) return keysOf(inner, here);
    const known = facts.get(type as z.ZodType);
    if (known === undefined) throw new Error(`${here.join('.')} is declared without key()`);
    return [{ path: here, default: (type as z.ZodType).safeParse(undefined).data, ...known }];
  });
}
