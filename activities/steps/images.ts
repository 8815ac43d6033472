import { z } from 'zod';
import { failureCodes, StepFailure } from '../../contract/failure.js';
import { exceeded, findFiles, readWanted } from '../allowed-files.js';
import type { StepContext } from './define-step.js';
import { imageHeader, isWhole } from './image-content.js';

/** More are refused when the task is submitted; `limits.images_max` says what this installation allows. */
const imagesMax = 100;
/** An image is decoded to four bytes a pixel and more, so that a file of some kilobytes could fill the memory of the model server. */
const imagePixelsMax = 50_000_000;

/** A file as `read_files` gives it. */
const ImageFile = z.object({ path: z.string().max(4096), content: z.string(), encoding: z.enum(['utf-8', 'base64']) });

/** Images of a step's input. */
export const Images = z
  .union([
    z
      .array(z.union([z.string().min(1).max(4096), ImageFile]))
      .min(1)
      .max(imagesMax),
    z.object({ files: z.array(ImageFile).min(1).max(imagesMax) }),
  ])
  .describe('Images (PNG, JPEG, WebP) for a model that can see: paths or patterns as in read_files, or the files that a read_files step gave');
export type Images = z.output<typeof Images>;

/**
 * The bytes of images, read and checked by their content.
 * @param before images of the same inference that are counted already
 * @throws {StepFailure} as read_files; `invalid_step_input` for what is no image; `limit_exceeded` for too many, too large or too many pixels
 */
export async function loadImages(images: Images, { fileRoots, workspace, limits, signal }: StepContext, before = 0): Promise<Buffer[]> {
  const loaded: Buffer[] = [];
  const add = async (path: string, bytes: Buffer): Promise<void> => {
    if (before + loaded.length >= limits.imagesMax) throw exceeded('images_max', `more than ${limits.imagesMax} images are given`);
    if (bytes.length > limits.imageBytes)
      throw exceeded('image_bytes', `the image ${shown(path)} has ${bytes.length} bytes, at most ${limits.imageBytes} are allowed`);
    loaded.push(await checked(path, bytes));
  };
  for (const image of Array.isArray(images) ? images : images.files) {
    signal.throwIfAborted();
    if (typeof image !== 'string') {
      // A file that is text cannot be an image; its bytes are told so by its content.
      await add(image.path, Buffer.from(image.content, image.encoding === 'base64' ? 'base64' : 'utf8'));
      continue;
    }
    for (const file of await findFiles([image], [...fileRoots, workspace], limits.imagesMax)) {
      signal.throwIfAborted();
      await add(file.path, await readWanted(file, { name: 'image_bytes', bytesMax: limits.imageBytes }));
    }
  }
  return loaded;
}

async function checked(path: string, bytes: Buffer): Promise<Buffer> {
  const header = imageHeader(bytes);
  if (header === undefined) {
    throw new StepFailure(failureCodes.invalidInput, `${shown(path)} is no PNG, JPEG or WebP image`, {
      retryable: false,
      details: { file: path.slice(0, 500) },
    });
  }
  const { kind, width, height } = header;
  if (width * height > imagePixelsMax)
    throw exceeded('image_pixels', `the ${kind} image ${shown(path)} has ${width} x ${height} pixels, at most ${imagePixelsMax} are allowed`);
  if (!(await isWhole(bytes, header))) {
    throw new StepFailure(failureCodes.invalidInput, `the ${kind} image ${shown(path)} is cut off, damaged or of a rare kind`, {
      retryable: false,
      details: { file: path.slice(0, 500) },
    });
  }
  return bytes;
}

function shown(path: string): string {
  return JSON.stringify(path.slice(0, 500));
}
