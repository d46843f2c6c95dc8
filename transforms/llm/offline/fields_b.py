"""The second half of the embedded author's fields of life; the format is described in `offline_domains`."""

from __future__ import annotations

from typing import Final

FIELDS_B: Final = """
# film
words: movie movies cinema series director actor television tv
kinds: review film review | post cinema forum post | note script reader's note
  | mail letter to a streaming service
things: opening scene | soundtrack | trailer | costume drama | subtitle file | final episode
roles: director | script reader | camera operator | projectionist
sites: cutting room | studio lot | old cinema
terms: diegetic sound | narrative focalisation | montage theory | intertextual reference
  | mise-en-scène
+ the film runs for {n} minutes
+ the premiere was held in {place}
+ the cast met for the first time in {month}
axis: the film genre described ? which film genre is described
- horror = something scratches behind the cellar door at night
  | viewers screamed when the doll moved
- comedy = the audience laughed at every mistaken hat
  | the clumsy waiter falls into the wedding cake
- western = the sheriff waits for the noon train, armed
  | cowboys drive the herd past the saloon
- science fiction = a crew wakes on a ship near another star | robots ask the court for citizenship
axis: the craft that is judged ? which craft is judged
- acting = the lead's face tells more than the lines | the father was played without any warmth
- camera work = the long take through the house is breathtaking
  | every picture is tilted and out of focus
- script = the plot has a hole after the robbery | no one would ever say such lines
- editing = the cuts come so fast that one gets lost | two scenes should have been joined

# literature
words: book books novel poem poetry author writing fiction reader
kinds: review book review | note publisher's reader note | post reading circle post
  | mail letter to a publisher
things: first chapter | manuscript | poetry collection | paperback | translation | book cover
roles: publisher | librarian | poet | translator
sites: bookshop | reading room | festival tent
terms: free indirect discourse | unreliable narration | metafictional irony | prosodic structure
  | paratextual framing
+ the manuscript has {n} pages
+ the story was written in {place}
+ the second edition appeared in {month}
axis: the literary form described ? which literary form is described
- poem = each line ends on the same sound | fourteen lines in two uneven stanzas
- crime novel = the inspector finds the knife in the piano
  | nobody but the gardener could be the killer
- biography = it follows one real scientist from cradle to grave
  | the chapters tell the statesman's true life
- fairy tale = the youngest prince frees the talking swan | a witch gives the girl three wishes
axis: the decision on the manuscript ? which decision on the manuscript is suggested
- accept = it can go to print as it stands | the list should buy it before others do
- revise = the middle should be cut and sent again | it may work after another draft
- decline = it does not fit the list in any form | there is no way to save this plot

# museums
words: museum art painting exhibition gallery sculpture artist artwork heritage
kinds: note restorer's note | review exhibition review | mail letter to a museum
  | report collection report
things: oil painting | bronze figure | audio guide | display case | loan agreement | drawing
roles: curator | restorer | museum guard | guide
sites: east wing | depot | sculpture hall
terms: provenance research | craquelure patterns | iconographic programme | pigment stratigraphy
  | curatorial framing
+ the work was shown in {place} before
+ the room holds {n} works
+ the show closes in {month}
axis: the damage to the work ? which damage to the work is described
- fading = the once red robe has become pink | years of sun took the blue from the sky
- cracks = fine lines run through the whole varnish | the panel has split from top to bottom
- mould = grey fur grew on the back of the canvas | the damp depot left spots that smell
- woodworm = small holes and fresh dust mark the frame | larvae have eaten tunnels in the panel
axis: the visitor group concerned ? which visitor group is concerned
- school class = {n} pupils with two teachers came by bus | the children drew helmets on worksheets
- pensioners = the seniors asked for chairs in each room
  | grey-haired friends come each {day} at half price
- tourists = they had one day between two airports | the group photographed everything for home
- researchers = they asked for the inventory and a lamp
  | the visitors measured brushstrokes for a thesis

# video games
words: game games gaming gamer console player esports
kinds: review game review | post players' forum post | chat chat with a game studio
  | report test team's report
things: final boss | save file | tutorial level | multiplayer mode | game controller
  | expansion pack
roles: level designer | tester | community manager | streamer
sites: test room | online lobby | trade fair
terms: ludonarrative dissonance | procedural generation | netcode latency | reward scheduling
  | emergent gameplay
+ the patch was published on {day}
+ the campaign takes {n} hours
+ the studio is based in {place}
axis: what the player criticises ? what the player criticises
- difficulty = the third boss cannot be beaten by anyone
  | after {n} tries the first jump still fails
- graphics = faces look like wet clay | the textures blur a metre away
- price = sixty euros for four hours is too much | each sword has to be bought separately
- cheating = rivals shoot through walls every night | half the lobby uses aim bots
axis: the type of game ? which type of game is described
- puzzle = falling blocks have to be turned and fitted
  | each room opens when the mirrors are aligned
- racing = drivers drift through {n} laps | the kart ahead throws oil on the track
- strategy = armies and farms are planned turn by turn | the long siege was won by grain supply
- role-playing = the elf gains levels and learns spells
  | she chose a dwarf and talked with villagers

# fashion
words: clothes clothing dress shoes style textile garment designer wear
kinds: review clothing review | post style blog post | note designer's fitting note
  | mail e-mail to a tailor
things: linen jacket | evening dress | leather boot | wool scarf | denim shirt | raincoat
roles: designer | tailor | model | buyer
sites: fitting room | atelier | catwalk
terms: drape coefficient | semiotic signalling | fibre morphology | trend diffusion
  | pattern grading
+ the fabric was woven in {place}
+ the collection has {n} pieces
+ the fitting took place on {day}
axis: the occasion for the outfit ? which occasion the outfit is for
- wedding = the bride's mother will wear it at church | it must match the bouquet and the ring
- job interview = it should impress the hiring panel on {day}
  | a serious look is needed to get the post
- sports = it dries fast and stretches when running | sweat should pass through while training
- winter walk = it has to keep out snow and wind | the lining is thick enough for icy mornings
axis: the complaint about the garment ? what the complaint about the garment is
- poor fit = the shoulders are far too tight | the waist sits under the arms
- bad fabric = it scratches and thins after a few days | the cloth tore like paper
- colour loss = it came out of the washer pale | the black has turned grey after {n} washes
- weak seams = the stitches opened when she sat down | the sleeve came off at the first wear

# cars
words: car vehicle vehicles automobile driving driver garage automotive motor
kinds: review car review | call call to a garage | note mechanic's note | post car owners' forum post
things: brake pad | electric car | gearbox | winter tyre | dashboard | exhaust pipe
roles: mechanic | dealer | test driver | inspector
sites: workshop | test track | showroom
terms: torque vectoring | regenerative braking | chassis compliance | combustion phasing
  | battery degradation
+ the car has done {n} thousand kilometres
+ the last service was in {month}
+ the garage in {place} has one free lift
axis: the part of the car at fault ? which part of the car is at fault
- brakes = the pedal sinks and the car keeps rolling | it squeals loudly whenever it should stop
- battery = it will not start after cold nights | the lights go dim and the starter clicks
- tyres = the tread is worn down on one side | the left front loses pressure overnight
- engine = it knocks and smokes above {n} miles an hour | oil leaks from under the bonnet
axis: the kind of driver writing ? which kind of driver is writing
- commuter = the same forty kilometres to the office each day
  | traffic jams before nine decide the choice
- learner = the licence test is on {day} | the instructor still holds the second wheel
- family driver = three child seats and a pram must fit | the kids fight on the back seat
- enthusiast = the old coupé is polished every Sunday | he rebuilt the carburettor for fun

# aviation
words: aircraft airplane plane airport airline pilot flight flying
kinds: report pilot's report | review airline review | mail letter to an airline
  | note maintenance note
things: boarding pass | landing gear | cabin seat | flight plan | runway light | fuel pump
roles: pilot | cabin attendant | controller | ground engineer
sites: hangar | control tower | gate
terms: boundary-layer separation | crew resource management | wake turbulence
  | redundancy architecture | stall margin
+ the aircraft had come from {place}
+ the flight carried {n} passengers
+ the log was signed at {time}
axis: the phase of flight concerned ? which phase of flight is concerned
- take-off = the wheels left the runway at {time} | full thrust was set and the nose came up
- cruise = at {n} thousand feet the belts were unfastened
  | the machine was level for hours over the ocean
- landing = the wheels touched down hard and bounced | the runway came in sight at the last moment
- taxiing = the wing hit a lamp near the gate | the machine rolled behind the yellow car
axis: the passenger's concern ? what the passenger's concern is
- lost luggage = the suitcase never came off the belt | the bag went to {place} instead
- delay = they sat at the gate for {n} hours | the plane left long after its time
- overbooking = two people held the same seat | there were more passengers than places
- catering = the only meal was a cold roll | the special meal had not been loaded

# shipping
words: ship ships sea maritime vessel port harbour boat sailing ocean
kinds: note ship's log entry | report harbour master's report | mail letter to a ferry company
  | post sailors' forum post
things: anchor chain | life jacket | cargo hatch | radar | ferry ticket | lighthouse
roles: captain | deckhand | harbour master | ship's engineer
sites: bridge | engine room | quay
terms: metacentric stability | ballast-water exchange | hydrodynamic drag
  | collision-avoidance rules | hull fouling
+ the vessel was {n} miles off {place}
+ the crew changes in {month}
+ the tide turned at {time}
axis: the danger at sea ? which danger at sea is described
- storm = waves broke over the deck all night | the gale tore the sail from the mast
- fog = the bow could not be seen from the wheel | horns sounded, for nothing was visible
- fire on board = smoke rose from the engine room | flames were seen below the galley
- running aground = the keel struck a sandbank at low tide | the hull sits on rocks off {place}
axis: the kind of vessel ? which kind of vessel is described
- ferry = cars roll on at the stern every hour | commuters cross the strait with their bicycles
- tanker = crude oil fills the holds of the ship | hoses pump its liquid load ashore
- fishing boat = the nets came up with cod | the crew sorts the catch on ice
- yacht = the owner sails it with friends in summer | the white hull lies in the marina

# public transport
words: bus train railway rail tram station commuter metro passenger
kinds: mail letter to a railway | post commuters' forum post | call call to a bus company
  | report controller's report
things: monthly pass | ticket machine | night bus | platform clock | tram stop | seat reservation
roles: train driver | conductor | ticket inspector | timetable planner
sites: main station | depot | platform
terms: headway regularity | modal split | timetable resilience | dwell-time variance
  | interlocking logic
+ the line runs from {place} to the coast
+ the train has {n} coaches
+ the new timetable starts in {month}
axis: the passenger's complaint ? what the passenger's complaint is
- overcrowding = people stood pressed against the doors | not even the steps had space for a child
- cleanliness = the seats were sticky and smelled | rubbish covered the whole carriage
- rude staff = the inspector shouted at an old woman | the driver shut the door with a grin
- missed connection = the last train had left two minutes before
  | the change in {place} could not be reached
axis: the cause of the disruption ? what the cause of the disruption is
- signal failure = all the lamps on the line stayed red | the switch box near {place} lost contact
- strike = the drivers stopped work for better pay | the union kept the depots shut on {day}
- trespassing = teenagers were walking between the rails
  | somebody had climbed the fence onto the track
- snow = the points froze under a white cover | drifts lay a metre deep on the line

# construction
words: building builder construction architect architecture site engineering bridge
kinds: note site diary entry | report inspector's site report | mail letter to a builder
  | call call to an architect
things: tower crane | concrete floor | roof beam | scaffold | window frame | drainage pipe
roles: foreman | architect | structural engineer | bricklayer
sites: building site | ground floor | site office
terms: shear reinforcement | creep deformation | load-path redundancy | thermal bridging
  | geotechnical settlement
+ the site is fenced on three sides
+ {n} workers were present in the morning
+ the shell should stand by {month}
axis: the trade concerned ? which trade is concerned
- plumbing = the pipes under the bath drip at the joint | hot and cold taps are swapped
- electrical work = the sockets on the top floor are dead | cables hang loose beside the fuse box
- carpentry = the oak stairs creak at the third tread | the rafters were cut too short
- masonry = the bricks in the north wall are crooked | mortar crumbles between the stones
axis: the risk on the building site ? which risk on the building site is described
- falling = the edge of the roof has no railing | a plank on the scaffold was missing
- collapse = the trench walls bulge after the rain | the prop under the slab has bent
- dust = workers cough in a grey haze without masks | the saw fills the hall with fine powder
- electric shock = the bare wire lies in a puddle | the drill tingles when the hand is wet

# manufacturing
words: factory production industrial industry plant machine assembly quality
kinds: report shift report | note machine operator's note | mail e-mail to a parts supplier
  | call call to a plant's service desk
things: conveyor belt | steel bolt | packaging line | spare part | drill press | quality check
roles: machine operator | shift leader | quality inspector | buyer
sites: hall two | paint shop | tool store
terms: statistical process control | takt-time balancing | tribological wear | tolerance stacking
  | overall equipment effectiveness
+ the shift made {n} hundred pieces
+ the order is for a customer in {place}
+ the line was last serviced in {month}
axis: the defect found on the piece ? which defect was found on the piece
- scratch = a thin line runs across the polished lid | the paint was marked by the gripper
- wrong dimension = the hole is {n} hundredths too wide | the shaft does not enter the bearing
- missing part = one screw was never put in | the box came without the handle
- rust = brown spots cover the stored plates | the steel stood in the rain and reddened
axis: the waste in the process ? which waste in the process is described
- waiting = four people stood idle until the mould came | the line rests {n} minutes for each tool
- overproduction = more lids were made than anyone ordered | the store is full of unsold pieces
- needless transport = the parts cross the yard three times
  | each box is driven to hall five and back
- rework = every tenth piece is painted again | {n} units had to be taken apart and fixed

# human resources
words: job jobs employee employees hiring recruitment work staff career workplace resume
kinds: mail letter of application | note interviewer's note | review employer review
  | post job seekers' forum post
things: job offer | pay slip | training course | reference letter | staff survey | trial period
roles: recruiter | team leader | trainee | union delegate
sites: meeting room | canteen | open-plan office
terms: psychological safety | competency modelling | attrition hazard | job-demand theory
  | pay-equity regression
+ the team has {n} members
+ the post in {place} is open until {month}
+ the interview lasted almost an hour
axis: the matter the employee raises ? which matter the employee raises
- pay rise = the wage has stayed the same for {n} years | others earn more for the same tasks
- parental leave = the baby is due in {month} | he wants to stay home with the newborn
- conflict = two colleagues refuse to share a room | shouting between desks has become daily
- training = she wants to learn the new software | a course in {place} would widen her skills
axis: the candidate's experience ? how much experience the candidate has
- entry level = no post was held before, only a degree | she has only done two internships
- mid-career = after {n} years he runs small projects alone
  | she has had three posts and now mentors one
- executive = he has led a firm of hundreds | she reported to the board for a decade

# marketing
words: advertising brand advertisement campaign advert promotion social media
kinds: report campaign report | mail advertising e-mail | note brand manager's note
  | review advert review
things: billboard | newsletter | product launch | slogan | discount code | trade fair stand
roles: brand manager | copywriter | market researcher | media buyer
sites: agency | trade fair | studio
terms: attribution modelling | brand salience | conjoint analysis | audience segmentation
  | price elasticity
+ the campaign ran in {place} first
+ {n} thousand people saw the poster
+ the budget is fixed until {month}
axis: the customer group it appeals to ? which customer group it appeals to
- teenagers = the clip copies dances from the schoolyard | after class they share it with classmates
- young parents = it promises a full night despite the baby | the pram appears in every picture
- retirees = it speaks of time after working life | grandchildren visit in the final shot
- business owners = it shows how firms save on wages | the offer counts for companies only
axis: the appeal the advert makes ? which appeal the advert makes
- fear = without it, burglars may come tonight | it shows what may happen to the unprotected
- humour = a talking goose steals the sandwich | everyone laughs at the man in the tub
- scarcity = only {n} pieces are left in the world | after {day} it will never be sold again
- authority = nine of ten dentists use it themselves | a Nobel laureate explains why it works

# cybersecurity
words: security hacker password cyber malware attack privacy data breach
kinds: report incident report | note analyst's log note | mail warning to staff
  | post security forum post
things: firewall | password manager | laptop | access badge | mail server | backup disk
roles: analyst | system administrator | penetration tester | security officer
sites: operations centre | server room | branch office
terms: lateral movement | privilege separation | entropy analysis | zero-trust segmentation
  | adversarial emulation
+ the alarm came in at {time}
+ {n} machines are on the same network
+ the logs are kept until {month}
axis: the type of attack ? which type of attack is described
- ransomware = all files are locked until coins are paid | a note on the screen demands {n} coins
- password guessing = {n} thousand sign-ins were tried overnight
  | the same account was tried with every birthday
- insider theft = a leaving employee copied the client list
  | the cleaner's badge opened the archive at {time}
- denial of service = millions of requests drowned the site
  | customers could not reach the page for hours
axis: the measure that would help ? which measure would help
- software update = the hole was mended by the maker in {month}
  | the version in use is {n} months old
- staff training = three people opened the fake invoice
  | nobody knew whom to tell about the odd e-mail
- stronger login = the word 1234 opened every door | one secret is shared by the whole team
- better backups = nothing could be restored afterwards | the only copy lay on the same disk

# robotics
words: robot robots ai automation artificial intelligence machine learning sensor
kinds: note robotics lab note | report robot trial report | post makers' forum post
  | mail letter to a robot maker
things: gripper | camera module | cleaning robot | drone | motor controller | training set
roles: robotics engineer | technician | operator | student
sites: test hall | workshop | warehouse aisle
terms: inverse kinematics | sensor fusion | sim-to-real transfer | policy-gradient variance
  | impedance control
+ the trial was run {n} times
+ the arm was built in {place}
+ the controller was replaced in {month}
axis: the component at fault ? which component is at fault
- sensor = it sees walls where there are none | the distance readings jump by {n} centimetres
- power supply = it dies after ten minutes off the charger | the voltage drops whenever it lifts
- motor = the left wheel no longer turns | the joint whirs and gets hot without moving
- software = it loops forever in the same branch | the old code returns after each restart
axis: the field of use ? which field of use is described
- surgery = the arm holds the scalpel steady | it stitches more evenly than a hand
- farm work = it pulls weeds between the rows | ripe berries are found and picked by it
- rescue = it crawls through rubble to find survivors | it was lowered into the collapsed mine
- household = it vacuums beneath the sofa | dishes are put away while the family sleeps

# pets
words: pet dog dogs cat cats animal animals veterinary vet
kinds: call call to a vet | post pet owners' forum post | note veterinary note
  | review kennel review
things: dog lead | cat flap | aquarium | vaccination card | food bowl | travel cage
roles: vet | dog trainer | breeder | kennel owner
sites: surgery | garden | boarding kennel
terms: zoonotic transmission | operant conditioning | metabolic acidosis
  | breed-specific morbidity | olfactory enrichment
+ the animal is {n} months old
+ the family moved from {place} in {month}
+ the practice opens at eight
axis: the species of animal concerned ? which species of animal is concerned
- dog = it barks whenever the postman rings | he pulls on the lead and fetches sticks
- cat = it purrs on the sofa and hunts mice | she uses the litter tray by the window
- parrot = it repeats words and cracks seeds | green feathers lie under the perch
- rabbit = it hops to the carrots and digs | the long ears droop since {day}
axis: the reason for the visit to the vet ? why the vet is visited
- vaccination = the yearly jab is due before travelling | the stamp in the yellow booklet is missing
- injury = the paw bleeds after a glass splinter | it limps since the jump off the wall
- behaviour = it bites the sofa when left alone | it growls at every visitor since {month}
- nutrition = it has gained {n} kilos in a year | it vomits after each new kind of tin

# gardening
words: garden gardener plants flower flowers lawn vegetable
kinds: post gardeners' forum post | note allotment diary entry | mail letter to a garden centre
  | review garden centre review
things: rose bush | compost heap | greenhouse | lawn mower | raised bed | apple tree
roles: gardener | nursery owner | neighbour | landscape designer
sites: allotment | back garden | glasshouse
terms: mycorrhizal symbiosis | cation-exchange capacity | vernalisation response
  | integrated pest management | soil aggregation
+ the bed is {n} metres long
+ the seeds came from a friend in {place}
+ the first frost usually comes in {month}
axis: the trouble in the garden ? which trouble in the garden is described
- slugs = silver trails lead to the eaten lettuce | the young beans vanish during wet nights
- lack of water = the leaves hang limp and the soil is dust | the pots dry out by noon
- lack of light = the stems grow long and pale in the shade | the tall hedge lets no sun through
- weeds = unwanted thistles come up faster than the carrots | bindweed climbs over everything again
axis: the job to be done ? which garden job is to be done
- pruning = the old branches must come off in {month} | sharp shears and a clean cut are needed
- sowing = the tiny grains go a thumb deep in rows | the packets are opened when the soil warms
- harvesting = the beans are ripe and the baskets ready | the pumpkins can be carried in on {day}
- planting = the young tree needs a hole this deep | the bulbs are set before winter

# weather
words: meteorology forecast climate rain storm temperature meteorological
kinds: report weather bulletin | note weather station entry | news weather news item
  | post weather watchers' forum post
things: rain gauge | weather balloon | storm warning | forecast map | thermometer | radar picture
roles: forecaster | observer | lighthouse keeper | pilot
sites: mountain station | coast | airfield
terms: baroclinic instability | convective inhibition | ensemble spread | orographic lifting
  | radiative forcing
+ the station stands {n} metres above the sea
+ readings are sent to {place} each hour
+ the series starts in {month}
axis: the kind of weather described ? which kind of weather is described
- thunderstorm = lightning struck the church tower at {time}
  | a flash and a loud crack came together
- heatwave = {n} degrees were read in the shade for days | asphalt melted and schools closed at noon
- fog = drivers could not see the next post | a white veil lay on the fields till ten
- snowfall = white flakes covered the roofs overnight | ploughs were out and skis were waxed
axis: the user the forecast is meant for ? which user the forecast is meant for
- sailors = wave height and gusts at the buoy are given | the strait should be left before {time}
- farmers = the hay can dry until {day} | the topsoil will stay moist for sowing
- drivers = icy bridges and spray are to be expected | braking distances double on the pass
- event planners = the open stage should stay dry at eight | tents need extra pegs for the fair

# emergency services
words: fire police ambulance rescue emergency firefighter crisis disaster
kinds: call emergency call | report fire brigade report | note dispatcher's note
  | news police news item
things: fire engine | rescue helicopter | smoke alarm | radio | stretcher | road block
roles: firefighter | paramedic | police officer | dispatcher
sites: station | scene | control room
terms: incident command | triage protocols | situational awareness | flashover dynamics
  | interagency coordination
+ the call came in at {time}
+ {n} people were evacuated
+ the road to {place} was closed
axis: the service that should respond ? which service should respond
- fire brigade = flames come out of the kitchen window | smoke fills the stairs of the tower block
- ambulance = a man on the floor has stopped breathing | her chest hurts and her arm is numb
- police = two men smash a shop door with a hammer | a stranger follows the girl through the park
- mountain rescue = a climber hangs below the ridge, leg broken
  | hikers are lost above the tree line
axis: the type of incident ? which type of incident is described
- flood = water stands in the cellars along the river | boats carry people from their upper windows
- gas leak = the stairwell smells of rotten eggs | the excavator hit the yellow pipe
- missing person = the boy did not come home from practice | an old man left the home without shoes
- road crash = two lorries lie across the motorway | a car hit a tree near {place}

# charity
words: donation donor volunteer nonprofit ngo fundraising aid humanitarian
kinds: mail letter to a charity | report relief project report | post volunteers' forum post
  | mail fundraising letter
things: food bank | donation box | soup kitchen | charity run | clothing parcel | grant application
roles: volunteer | fundraiser | treasurer | social worker
sites: community hall | relief camp | charity shop
terms: theory of change | counterfactual impact | beneficiary targeting | donor fatigue
  | programme fungibility
+ the project in {place} began in {month}
+ {n} helpers come each week
+ the accounts are open to members
axis: the way someone wants to help ? how someone wants to help
- giving money = {n} euros will be transferred each month | a cheque lies in the envelope
- giving time = every {day} afternoon is free for the project
  | two pairs of hands can serve the soup
- giving goods = four boxes of winter coats are ready
  | the old fridge still works and can be fetched
- spreading the word = the leaflets will be put up at work | she wants to tell all her followers
axis: the cause that is supported ? which cause is supported
- hunger relief = rice and beans go to the empty pots | many children went to bed without a meal
- medical aid = bandages and doctors reach the camp by jeep | {n} eye operations were paid for
- education = a village class gets desks and chalk | the girls can now finish their degrees
- animal welfare = stray dogs get shelter and care | the old donkeys are kept on a meadow

# archaeology
words: history historical ancient archaeologist excavation past museum archive
kinds: note excavation diary entry | report find report | news archaeology news item
  | mail letter to an archive
things: clay pot | burial mound | stone tool | coin hoard | trench plan | old letter
roles: archaeologist | archivist | conservator | historian
sites: trench | find store | hilltop
terms: dendrochronology | stratigraphic context | use-wear analysis | taphonomic bias
  | radiocarbon calibration
+ the trench is {n} metres long
+ the site lies above {place}
+ the dig goes on until {month}
axis: the period the find belongs to ? which period the find belongs to
- Stone Age = the blades were knapped from flint | hunters left bones beside chipped tools
- Roman = the mosaic carries a Latin motto | a legion's stamp is pressed into the tile
- medieval = the knight's seal hung on parchment | monks had copied it in the abbey
- industrial age = the boiler plate names a steam works | cast rails and gas lamps lay in the layer
axis: the function of the find ? which function the find had
- weapon = the edge was made to wound in battle | it was shot from a bow in the siege
- ornament = the beads were worn round the neck | a gold pin held the cloak of a lady
- kitchen ware = traces of porridge stick to the bottom | it hung above the hearth for stews
- ritual object = it was laid on the altar for the god | the small idol was buried with incense

# languages
words: language linguistics translation translator grammar word words speech dialect
kinds: note translator's note | post language learners' forum post
  | mail e-mail to a translation agency | report field linguist's report
things: dictionary | user manual | subtitle | loanword | grammar exercise | interview recording
roles: translator | interpreter | linguist | language teacher
sites: language school | recording booth | village square
terms: morphosyntactic alignment | pragmatic implicature | vowel harmony | diglossia
  | collocational preference
+ the text has {n} pages
+ the recordings come from {place}
+ the course starts in {month}
axis: the learner's mistake ? which mistake the learner makes
- word order = the verb stands at the very end again | the adverb slips between verb and object
- spelling = the double letter is always left out | he writes the silent k nowhere
- pronunciation = the th comes out as a hissing s | her vowels are too short to be understood
- false friend = she took the look-alike for a gift | the similar German noun means something else
axis: the kind of translation needed ? which kind of translation is needed
- legal = the contract clauses must bind in both countries | a sworn stamp is needed for the court
- medical = the patient leaflet lists doses and risks | the surgeon's letter must be read abroad
- literary = the rhymes and moods should survive | the novel's old-fashioned voice must be kept
- technical = the drill's manual has {n} warning signs | part names must match the drawing

# libraries
words: library librarian lending books catalogue archive information
kinds: mail letter to a library | note librarian's desk note | review library review
  | chat chat with a library desk
things: reader's card | reading desk | overdue notice | e-book licence | map collection
  | photocopier
roles: librarian | archivist | student | reading mentor
sites: main hall | children's corner | stacks
terms: bibliographic control | authority records | relevance feedback | digital preservation
  | controlled vocabulary
+ the branch in {place} is closed on Mondays
+ {n} volumes were moved in {month}
+ the lift to the stacks is narrow
axis: the service the reader needs ? which service the reader needs
- loan extension = three more weeks are needed for the thick volume
  | it cannot be brought back before {day}
- interlibrary request = no copy is held here but {place} has one
  | it must be fetched from another town
- research advice = she does not know where to look for sources
  | he wants help to find studies on bees
- room booking = a quiet place for {n} people on {day} | the study group needs a table and a door
axis: the type of material concerned ? which type of material is concerned
- newspaper = the daily issue of {date} is wanted | the old headlines are stored on film
- map = the sheet shows the valley at a small scale | rivers and borders are drawn by hand
- audio recording = the disc skips in the third track | the spoken version lasts {n} hours
- manuscript = the ink by an unknown hand has faded | it exists only once, written with a quill

# hospitality
words: hotel restaurant guest guests room waiter dining bar cafe accommodation
kinds: review hotel review | mail e-mail to a hotel | review restaurant review
  | note night porter's note
things: double room | breakfast buffet | wine list | minibar | table booking | swimming pool
roles: receptionist | waiter | chambermaid | hotel manager
sites: lobby | terrace | dining room
terms: service recovery | revenue management | expectation disconfirmation
  | occupancy forecasting | emotional labour
+ the house in {place} has {n} rooms
+ the stay was booked in {month}
+ the key was handed over at {time}
axis: what the guest remarks on ? what the guest remarks on
- cleanliness = hairs lay in the shower on arrival | every corner smelled fresh and shone
- location = the beach begins behind the back door | the station is two steps away
- food = the eggs were cold and the bread stale | the fish tasted as if caught that hour
- noise = the bar below boomed until three | not a sound came through the walls at night
axis: the guest's request ? what the guest requests
- late check-out = they would keep the key until three | the train leaves in the evening only
- extra bed = a third person will sleep in the room | a cot for the baby is needed
- special diet = one of them cannot eat wheat or milk | the meals must contain no nuts
- airport pick-up = a car should wait at arrivals at {time} | they land at {time} with heavy bags

# economics
words: economy economic market trade inflation tax business finance stock investment
kinds: report market report | news business news item | note analyst's note
  | post investors' forum post
things: interest rate | quarterly report | trade agreement | pension fund | tax reform | share price
roles: economist | analyst | trader | central banker
sites: trading floor | ministry | chamber of commerce
terms: monetary transmission | Pareto efficiency | heteroskedastic residuals | marginal utility
  | yield-curve inversion
+ the figures cover the months up to {month}
+ the firm employs {n} hundred people in {place}
+ the next meeting is on {day}
axis: the economic trend described ? which economic trend is described
- inflation = bread and rent cost {n} per cent more
  | the same wage fills a smaller basket each month
- recession = output has shrunk for three quarters in a row | firms close and lay off their people
- boom = factories cannot find enough hands for all orders | sales and wages climb in every town
- stagnation = for years output has hardly moved at all | the curve has been flat since {month}
axis: the market concerned ? which market is concerned
- labour market = {n} thousand posts could not be filled | wages for nurses climbed again
- housing market = two-bedroom flats cost more than ever | fewer families can buy a home in {place}
- stock market = the index lost {n} points by the close | investors sold shares in the afternoon
- oil market = a barrel costs {n} dollars at the port | the wells in the gulf pump less

# physics
words: particle quantum energy experiment laboratory mechanics optics
kinds: note physics lab note | report experiment report | post physics students' forum post
  | news physics news item
things: laser | vacuum chamber | detector | pendulum | magnet coil | measuring bridge
roles: physicist | doctoral student | lab engineer | professor
sites: beam hall | clean room | basement lab
terms: decoherence rates | gauge invariance | systematic uncertainty | phase-space density
  | thermal noise
+ the run took {n} hours
+ the detector was built in {place}
+ the beam was switched on at {time}
axis: the branch of physics concerned ? which branch of physics is concerned
- optics = the lens bends the red ray less | two slits gave bright and dark stripes
- thermodynamics = heat flowed until both blocks were equal | the gas cooled as it expanded
- acoustics = the tube hums at {n} hertz | the echo returned after a third of a second
- mechanics = the ball rolled farther on the steeper ramp
  | the swing's period grew with its length
axis: the source of the error ? what the source of the error is
- miscalibration = the scale showed two grams when empty
  | the zero point was never set before the run
- interference = the tram outside shook every reading | the phone's signal leaked into the coil
- arithmetic slip = the last sum was added up incorrectly | a minus sign got lost on page {n}
- too few readings = the curve rests on three points only
  | one single trial was made before packing up
"""
