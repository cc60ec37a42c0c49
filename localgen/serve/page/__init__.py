"""The pages of the server: a chat at ``/`` and a comparison at ``/compare``.

assemble.py    one self-contained file of a page's sources, and the policy that allows nothing else
endpoints.py   their routes

``files/`` has the sources, which also work as they stand. Text and bytes:

theme.js kept.js                         light or dark before the first paint; small values kept
server.js events.js reply.js models.js   requests, errors, streams, a reply of chunks, the models
settings.js request.js                   options, and a branch as the body of a request
conversation.js conversation_check.js    a tree of messages; the form of a file of conversations
storage.js library.js transfer.js        the browser's database; in memory; files
merge.js other_tabs.js                   one conversation in two tabs
markdown_blocks.js markdown_inline.js    Markdown as data
json_text.js controls.js direction.js    indented JSON; characters that reorder a text; directions
meters.js token_texts.js difference.js   figures as people read them; tokens; the first difference

What is seen:

dom.js icons.js clipboard.js announcer.js dialogs.js shortcuts.js theme_switch.js
children.js markdown_view.js message_view.js message_editor.js tool_calls_view.js thread_view.js
sidebar.js drawer.js composer.js settings_form.js model_choice.js options_panel.js context_view.js
run.js chat_runs.js pacer.js             one reply on its way; those of all conversations; how often
                                         what grows is shown
chat.html chat.js                        the chat, and what people do on it
heat_view.js token_details.js side.js    tokens and their colours; one side of a comparison
compare.html compare.js                  the comparison
base.css chat.css compare.css markdown.css
"""
