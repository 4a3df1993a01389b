// The page Generate.

import { notify } from "./app.js";
import { startFilter } from "./gallery.js";
import { startForm } from "./generation-form.js";
import { makePictures, startStop } from "./generation-run.js";
import { startViewer } from "./viewer.js";
import { resumeWorks } from "./works.js";

startForm(makePictures);
startStop();
startFilter((message) => notify(message, { problem: true }));
startViewer();
resumeWorks();
