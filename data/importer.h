/* What the kinds of import share: an importer takes samples, checks them against the files they name, and writes the
 * manifest. Used by data/import*.c alone. */
#ifndef MSD_DATA_IMPORTER_H
#define MSD_DATA_IMPORTER_H

#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "data/import.h"
#include "data/manifest.h"

typedef struct import_picture {
    const char *path;
    bool        usable;
    int         width, height;               /* upright */
    int         stored_width, stored_height; /* before the EXIF turn */
} import_picture;

typedef struct importer {
    const import_options *o;
    import_report        *report;
    arena                 memory;   /* lives as long as the import */
    file_writer          *out;
    char                 *folder;   /* the manifest's, without links; heap */
    double                min_area;
    bool                  need_subject; /* a sample without subjects is left out */
    import_picture      **table;    /* open addressing, by path */
    uint64_t              slots, used;
    char                 *seen_folder, *real_folder; /* the last one resolved; heap */
    const char          **class_name; /* of o->classes */
    int64_t               class_count;
    logger               *log;
} importer;

/* One thing that is left out, or (remark) taken nevertheless, for a reason that is a constant; the rest names it. */
void import_skip(importer *im, const char *reason, const char *format, ...) __attribute__((format(printf, 3, 4)));
void import_remark(importer *im, const char *reason, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The picture's sizes, looked at once a path; NULL after it was skipped by name. */
const import_picture *import_look(importer *im, const char *path);

/* Checks a sample, drops what cannot be used (said in the report), writes the rest as a line. Paths are relative to the
 * working directory. Strings are only read. s->text NULL: made from the phrases. E_IO, E_DISK_FULL. */
err import_add(importer *im, const sample *s);

/* The same in two steps, for kinds that make something only for what is kept. */
typedef struct import_selection {
    const import_picture *target;
    subject              *item;  /* (count) copies, boxes clipped */
    int                  *from;  /* item i was s->subject[from[i]] */
    double               *share; /* of the picture that the box covers */
    int                   count;
    arena                 memory;
} import_selection;
/* False: the sample was skipped. The selection is to be freed (arena_free of its memory) in either case. */
bool import_select(importer *im, import_selection *out, const sample *s);
err  import_write(importer *im, const sample *s, import_selection *selected);

/* Text files. */
/* The first line of PICTURE.txt or PICTURE.caption that is not blank, else o->caption, else NULL (nothing is skipped).
 * In im->memory. */
const char *import_caption_beside(importer *im, const char *picture);
/* `picture` with another ending; in im->memory. */
const char *import_with_ending(importer *im, const char *picture, const char *ending);
/* `text` without white space at its ends, in im->memory; NULL when nothing is left, or it is not UTF-8. */
const char *import_trimmed(importer *im, const char *text, size_t size);
/* The name of a class: a string, or a number that o->classes names; NULL when there is none. */
const char *import_class_name(importer *im, const json_t *value);
/* Four numbers; xywh: x, y, width, height. False for anything else. */
bool import_box(double out[4], const json_t *value, bool xywh);
/* o->box, or the whole picture: normalised. E_USAGE. */
err import_box_option(double out[4], const import_options *o);

/* Lists. */
typedef struct import_list {
    const char **item; /* paths, sorted by bytes; heap */
    int64_t      count, capacity;
} import_list;
/* Pictures of a folder by their endings, with sub-folders when asked; hidden ones are passed over. Endings of other
 * picture formats are skipped by name. E_DATASET: the folder cannot be read. The item array is freed by the caller. */
err import_list_pictures(importer *im, import_list *out, const char *folder, bool recursive);
err import_list_folders(importer *im, import_list *out, const char *folder);

/* Calls line(user, object, number) for each line of a JSONL file that is an object; others are skipped by number.
 * E_DATASET. */
err import_json_lines(importer *im, const char *path, err (*line)(void *user, json_t *object, int64_t number),
                      void *user);

/* The kinds. */
err import_folder(importer *im);
err import_metadata(importer *im);
err import_bbox(importer *im);
err import_coco(importer *im);
err import_clips(importer *im);

#endif
