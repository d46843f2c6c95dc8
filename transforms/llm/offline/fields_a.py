"""The first half of the embedded author's fields of life; the format is described in `offline_domains`."""

from __future__ import annotations

from typing import Final

FIELDS_A: Final = """
# health care
words: doctor hospital patient medicine medical clinic nurse disease health
kinds: mail message to a clinic | note nurse's shift note | review review of a doctor's practice
  | call call to a ward
things: blood test | knee brace | inhaler | hospital bed | referral letter | hearing aid
roles: nurse | surgeon | receptionist | physiotherapist
sites: waiting room | outpatient wing | day ward
terms: comorbidity burden | pharmacokinetic variability | differential diagnosis
  | nosocomial exposure | triage acuity
+ the waiting room was busier than usual
+ the file is kept under the patient's birth name
+ the ward changes shifts at two in the afternoon
axis: the clinic department that should take over ? which clinic department should take over
- cardiology = her pulse skips beats on every staircase | the ECG shows extra beats at rest
- dermatology = a red itching rash covers both arms | the mole on his back has changed colour
- orthopaedics = the wrist cannot bend since the fall | her knee locks whenever she squats
- paediatrics = the toddler has refused milk since {day} | the six-year-old needs a school check-up
axis: the stage of care described ? which stage of care is described
- prevention = all pupils got their flu jabs on {day} | nobody is ill, yet everyone was screened
- diagnosis = the scan finally gave the illness a name | doctors now know what causes the pain
- treatment = the second dose was given through a drip | the surgeon removed the stone on {day}
- rehabilitation = he walks further each week with crutches
  | after the stroke she practises holding a spoon

# banking
words: bank money loan account finance credit payment financial
kinds: mail letter to a bank | chat chat with a bank's help desk | note branch manager's memo
  | review bank review
things: debit card | mortgage | savings account | standing order | bank statement | overdraft
roles: cashier | loan officer | branch manager | auditor
sites: branch lobby | back office | call centre
terms: liquidity coverage | counterparty exposure | credit-risk weighting | settlement finality
  | maturity transformation
+ the branch closes at noon on Saturdays
+ the reference number is printed on the second page
+ the customer has been with the bank for {n} years
axis: the kind of fraud that is suspected ? which kind of fraud is suspected
- phishing = a fake e-mail link asked for her password | the text message led to a copied login page
- card theft = somebody paid in {place} with the stolen plastic
  | his wallet vanished before the purchases began
- identity fraud = a stranger borrowed money in her name
  | accounts were opened with his copied passport
- cheque fraud = the signature on the paper slip was traced
  | the written amount had been altered in ink
axis: the bank product concerned ? which bank product is concerned
- home loan = the couple owes {n} more years on their flat
  | the house serves as security until {month}
- credit card = the plastic was refused at the petrol station
  | the monthly limit was reached before the holiday
- deposit = the money earns interest until it is withdrawn
  | she locked her savings away for two years
- currency exchange = dollars are needed for the trip on {day}
  | the yen rate shifted before he could convert

# logistics
words: delivery shipping parcel warehouse transport freight supply chain
kinds: mail e-mail to a parcel service | note warehouse log entry | post drivers' forum post
  | report depot's daily report
things: parcel | pallet | delivery van | tracking code | forklift | customs form
roles: driver | dispatcher | warehouse clerk | courier
sites: loading bay | sorting hall | depot
terms: cross-docking throughput | last-mile density | safety-stock policy | routing heuristics
  | lead-time variance
+ the tour starts at the north gate every morning
+ the consignment weighs {n} kilograms
+ the depot handles mail for the whole valley
axis: what went wrong with the shipment ? what went wrong with the shipment
- damaged goods = the box was crushed and the vase broken
  | water had soaked the cartons at the bottom
- wrong address = the neighbours three streets away received it
  | the label showed a street that does not exist
- lost parcel = nobody has seen the box since {place} | the trail ends at the hub in {place}
- late arrival = it came nine days after the promised date
  | the birthday was over when it finally came
axis: the means of transport used ? which means of transport was used
- road = the lorry stood on the motorway near {place} | the van driver took the bypass
- rail = the wagons waited at a signal near {place} | the containers rolled in behind a locomotive
- sea = the vessel left the harbour with the tide | the containers were unloaded at the quay
- air = the freight landed on the night flight | the plane carried the crates from {place}

# agriculture
words: farm farming crop crops farmer livestock soil harvest
kinds: post farmers' forum post | note field diary entry | report extension officer's report
  | call call to a seed dealer
things: tractor | irrigation pump | wheat field | milking robot | seed order | grain silo
roles: farmer | agronomist | vet | seed dealer
sites: lower meadow | machine shed | east field
terms: nitrogen mineralisation | evapotranspiration deficit | rhizosphere ecology
  | cultivar-by-environment interaction
+ the lower field has not been ploughed since {month}
+ the cooperative meets again on {day}
+ the farm has belonged to the family for {n} years
axis: the threat to the crop ? what threatens the crop
- pests = small beetles chew holes in every leaf | caterpillars were counted on {n} stems
- plant disease = orange rust spreads from leaf to leaf | a white mould covers the young ears
- drought = not a drop has fallen for {n} days | the ground has cracked and the stream is dry
- frost = the blossoms froze in one clear night | ice covered the seedlings at dawn
axis: the branch of farming concerned ? which branch of farming is concerned
- dairy = the cows gave less milk after the move | the milking parlour opens before five
- poultry = the hens lay fewer eggs in winter | the chicks need warmer lamps
- arable = the barley was sown after the rain | the combine will cut the rye on {day}
- fruit growing = the apple trees are pruned every winter | the cherries must be picked by hand

# software support
words: software computer app bug technical program it helpdesk user
kinds: mail support ticket | post bug report | chat chat with a help desk | review app review
things: login page | printer driver | mobile app | backup server | licence key | search box
roles: administrator | developer | support agent | tester
sites: staging system | server room | test lab
terms: race conditions | idempotent retries | memory fragmentation | cache coherence
  | dependency resolution
+ the machine runs the release from {month}
+ a screenshot is attached to the ticket
+ about {n} people in the office use the same version
axis: the kind of fault ? which kind of fault it is
- crash = the window closes by itself when saving | the program vanishes without any message
- slowness = each click takes almost a minute | the list needs {n} seconds to open
- data loss = yesterday's entries are gone after the update
  | half of the saved files came back blank
- security hole = strangers can read other users' files | anyone gets in without a password
axis: the part of the product concerned ? which part of the product is concerned
- installation = the set-up wizard stops at step {n} | the download never unpacks on a new machine
- billing = the subscription was charged twice in {month} | the invoice shows {n} seats too many
- user interface = the button hides behind the menu | white letters on yellow cannot be read
- documentation = the manual describes a menu that is gone | the help page skips the third step

# travel
words: trip holiday tourism tourist vacation flight journey traveller
kinds: review trip review | mail e-mail to a travel agency | post travellers' forum post
  | note tour guide's diary entry
things: guided tour | rental car | hiking map | boat trip | travel visa | rail pass
roles: tour guide | travel agent | fellow traveller | bus driver
sites: old town | mountain lodge | harbour
terms: seasonal carrying capacity | destination branding | yield management | visitor dispersion
  | heritage interpretation
+ the group spent {n} days in the region
+ the route led through {place} and back
+ the season there lasts until {month}
axis: the kind of holiday described ? which kind of holiday is described
- beach holiday = days passed between towels, waves and sand
  | the children built castles by the water
- city break = three museums fitted into one weekend | they walked from the cathedral to the markets
- hiking tour = the path climbed to the hut by evening | blisters began after the second ridge
- cruise = each morning the ship lay in another port | the cabin rocked gently below deck
axis: the traveller's budget ? what budget the traveller has
- shoestring = six people shared one room and cooked noodles | he hitchhiked and slept in a tent
- mid-range = a clean three-star room was quite enough | they ate out twice and took buses otherwise
- luxury = a butler carried the bags to the suite | champagne was poured on the private terrace

# law
words: legal court lawyer contract judge justice crime attorney
kinds: mail letter to a law firm | note court clerk's note | report summary of a judgment
  | post legal advice forum post
things: lease | witness statement | will | court order | notarial deed | settlement offer
roles: lawyer | judge | notary | clerk
sites: courtroom | registry | chambers
terms: estoppel doctrine | evidentiary admissibility | proportionality review
  | fiduciary obligation | res judicata
+ the hearing was moved to room {n}
+ the papers were served by registered post
+ both sides have named their counsel
axis: the area of law ? which area of law applies
- family law = the parents dispute where the children will live | the marriage ended after {n} years
- criminal law = he is charged with breaking into a shop | the jury must decide on the robbery
- employment law = she was dismissed while on sick leave | overtime was never paid to the staff
- property law = the fence stands a metre over the boundary
  | the landlord refuses to return the keys
axis: the stage of the proceedings ? which stage the proceedings have reached
- filing = the first papers reached the registry on {day} | the claim was handed in this morning
- trial = witnesses are being questioned before the bench | the jury heard the expert on {day}
- appeal = the higher court will look at the ruling again
  | the losing side challenges the decision above
- enforcement = the bailiff may now seize the car | wages will be withheld until the sum is paid

# astronomy
words: star stars planet space telescope galaxy universe cosmic
kinds: note observing log entry | report observatory report | post stargazers' forum post
  | news astronomy news item
things: telescope | star chart | spectrograph | camera filter | observing run | light curve
roles: astronomer | observer | night assistant | optics engineer
sites: mountain dome | control room | dark-sky field
terms: photometric calibration | redshift estimation | adaptive optics | limb darkening
  | interstellar extinction
+ the sky over {place} stayed dark until four
+ the exposure lasted {n} minutes
+ the mirror was cleaned in {month}
axis: the object that was observed ? which object was observed
- comet = a fuzzy head trailed a long dusty tail | it brightens as ice boils away near the Sun
- exoplanet = a distant star dims every {n} hours | a small world circles another sun
- supernova = a dying star outshone its neighbours overnight | the blast faded over {n} weeks
- galaxy = two spiral arms wind around a bright core | billions of suns form one dim oval
axis: what spoiled the observation ? what spoiled the observation
- clouds = the whole sky turned grey at ten | a low layer of vapour hid the stars
- moonlight = the full disc washed out the faint targets
  | everything near the bright lunar face was lost
- tracking error = each star became a short streak | the drive drifted during long exposures
- light pollution = the glow of the city drowned the field | new street lamps shine into the dome

# cooking
words: food recipe kitchen chef cook meal baking dish
kinds: review recipe review | post cooking forum post | note kitchen notebook entry
  | chat message to a cookery school
things: sourdough loaf | tomato soup | cast-iron pan | lemon tart | vegetable curry | stand mixer
roles: chef | baker | kitchen assistant | cookery teacher
sites: test kitchen | bakery | canteen
terms: Maillard kinetics | gluten development | emulsion stability | enzymatic browning
  | starch retrogradation
+ the recipe serves {n} people
+ the oven in {place} runs a little hot
+ the ingredients came from the market on {day}
axis: what went wrong in the kitchen ? what went wrong in the kitchen
- overcooked = the steak came out grey and tough | the noodles turned to mush in the pot
- underdone = the middle of the cake was still liquid | the potatoes were hard inside
- too salty = everybody drank three glasses of water afterwards
  | he had seasoned the broth twice by mistake
- curdled = the sauce split into lumps and whey | the custard turned grainy over the flame
axis: the course of the meal ? which course of the meal is meant
- starter = small plates are served before everything else | it should only wake the appetite
- main course = the roast fills the plate with its potatoes | it is the heart of the evening meal
- dessert = sugar and cream close the evening | the guests get it after the plates are cleared
- snack = it is eaten by hand between meals | one piece in the lunch box is enough

# sport
words: sports football team match game player athlete coach league
kinds: news match report | post fans' forum post | note coach's training note
  | call call to a sports radio show
things: penalty kick | training plan | season ticket | relay race | new stadium | team bus
roles: coach | referee | goalkeeper | physio
sites: home ground | training pitch | changing room
terms: periodised load | lactate threshold | expected-goals modelling | neuromuscular fatigue
  | positional play
+ about {n} hundred people watched from the stands
+ the team had travelled from {place}
+ the next fixture is on {day}
axis: the sport that is described ? which sport is described
- swimming = she touched the wall after {n} lengths | he turned under water and kicked off
- tennis = the serve landed just behind the line | the third set went to a tie-break
- cycling = the riders climbed the pass in a long line | a flat tyre cost him the stage
- basketball = the last shot dropped through the hoop
  | she dribbled past two and passed under the rim
axis: the matter behind the news ? which matter is behind the news
- injury = the striker left the pitch on a stretcher | a torn muscle keeps her out until {month}
- transfer = the keeper signs for a club in {place} | the two clubs have agreed on the fee
- doping = the second sample contained a banned substance | the lab found steroids in the urine
- record = nobody has ever run the distance faster | the old best mark fell by {n} hundredths

# education
words: school teacher student students teaching pupils university learning class exam
kinds: mail letter to a school | note teacher's classroom note | post parents' forum post
  | review course review
things: maths exam | reading list | school trip | science project | timetable | homework app
roles: teacher | headmaster | tutor | school counsellor
sites: classroom | school library | assembly hall
terms: formative assessment | cognitive load | metacognitive scaffolding | construct validity
  | zone of proximal development
+ the class has {n} pupils this year
+ the new term begins in {month}
+ the lesson takes place in the second hour
axis: the school subject concerned ? which school subject is concerned
- mathematics = the class struggles with fractions and equations
  | the triangle's third angle was wrong
- history = the pupils compared two accounts of the siege | the essay explains why the empire fell
- physics = the trolley rolled down a ramp with a stopwatch | a magnet and a coil lit the bulb
- art = charcoal portraits now hang along the corridor | they mixed three pigments for the sky
axis: the difficulty the pupil has ? which difficulty the pupil has
- attention = he stares out of the window after minutes | every noise in the corridor draws her away
- motivation = she could do it but sees no point | he says nothing at all interests him
- reading = the letters seem to swap places for him | she needs an hour for a single page
- bullying = others hide his bag and laugh | nobody lets her sit down at lunch

# real estate
words: house housing flat apartment property rent landlord tenant home
kinds: mail e-mail to a landlord | review letting agency review
  | note estate agent's viewing note | post tenants' forum post
things: studio flat | heating bill | balcony door | parking space | rental contract | floor plan
roles: landlord | estate agent | caretaker | tenant
sites: stairwell | basement | courtyard
terms: capitalisation rate | easement encumbrance | hedonic pricing | vacancy elasticity
  | depreciation schedules
+ the flat is on the third floor
+ the lease runs until {month}
+ the building was put up {n} years ago
axis: the defect reported ? which defect is reported
- damp = black spots grow behind the wardrobe | the wallpaper peels off the wet wall
- heating = the radiators stay cold since {day} | the boiler gives up every morning
- noise = drums from next door last until midnight | each step upstairs can be heard in bed
- lift failure = the cabin has been stuck since {day} | residents climb {n} steps with shopping
axis: the kind of property ? which kind of property is meant
- office space = desks for {n} people fit on the floor | the rooms suit a firm, with meeting corners
- family house = a garden, four bedrooms and a swing | the children would each have a room
- student room = one desk, one bed and a shared kitchen | it lies five minutes from the campus
- shop = large windows face the pedestrian street | customers walk straight in from the pavement

# insurance
words: insurer policy claim claims coverage insured premium accident
kinds: mail letter to an insurer | note claims handler's note | call call to a claims line
  | report assessor's report
things: travel policy | claim form | windscreen | water pipe | premium notice | repair estimate
roles: claims handler | broker | assessor | underwriter
sites: claims office | repair shop | archive
terms: adverse selection | loss-ratio volatility | moral hazard | actuarial reserving
  | subrogation rights
+ the policy was taken out in {month}
+ the deductible stands at {n} per cent
+ photographs of the scene are on file
axis: the kind of claim ? which kind of claim it is
- fire = smoke blackened the whole kitchen | flames had jumped from the pan to the curtain
- water damage = a burst pipe soaked the parquet | the ceiling dripped for {n} hours
- burglary = the back door was forced and jewels are gone
  | drawers were emptied while they were away
- traffic accident = two cars met at the crossing near {place}
  | the bumper broke when the van braked
axis: the decision that fits the claim ? which decision fits the claim
- pay in full = every document is there and nothing is excluded
  | the event and the sum match the contract
- pay in part = the contract carries only {n} per cent here
  | the older scratches existed before the event
- reject = the contract had ended before it happened | the clause excludes exactly this event
- investigate = the two statements contradict each other | the receipts look as if printed at home

# energy supply
words: electricity power gas grid solar wind energy fuel utility
kinds: mail letter to a power company | report grid operator's report | call call to a fault line
  | news energy news item
things: smart meter | solar panel | heat pump | gas boiler | wind turbine | charging station
roles: grid operator | fitter | meter reader | plant engineer
sites: substation | control centre | roof
terms: reactive-power compensation | frequency containment | load-flow modelling
  | curtailment policy | thermal inertia
+ the meter stood at {n} thousand
+ the cable was laid in {month}
+ the substation serves the whole of {place}
axis: the source of energy concerned ? which source of energy is concerned
- solar = the panels on the barn face south | output peaks at noon and ends at dusk
- wind = the blades turn slowly above the ridge | the rotor stopped in the calm
- hydropower = the reservoir drives three turbines below the dam
  | the river runs through the old mill
- nuclear = the reactor is refuelled every {n} months | the spent rods cool in a deep pool
axis: the customer's concern ? what the customer's concern is
- high bill = the yearly sum has doubled without reason | {n} euros more are asked each month
- outage = the whole street has been dark since {time} | the fridge and lights died together
- moving house = the keys are handed over on {day} | a new address starts in {month}
- switching supplier = another firm takes over from {month} | the contract with the old company ends

# telecommunications
words: phone internet mobile broadband network telephone telecom provider
kinds: chat chat with a phone company | mail e-mail to an internet provider
  | review network review | note technician's visit note
things: router | SIM card | phone contract | landline | fibre connection | roaming package
roles: technician | shop assistant | call agent | network planner
sites: exchange | phone shop | cable duct
terms: spectral efficiency | packet jitter | handover latency | backhaul capacity
  | quality-of-service shaping
+ the contract was signed in the shop in {place}
+ the line has been in use for {n} years
+ the router stands in the hall
axis: the fault the customer describes ? which fault the customer describes
- no connection = the red lamp has not gone out since {day} | not a single page opens at home
- low speed = films stop to load every few minutes | only {n} kilobits arrive in the evening
- poor voice quality = every second word is swallowed | the other side sounds like a robot
- wrong charges = the sum includes calls nobody made | {n} euros appear for a service never ordered
axis: the reason for leaving the company ? why the customer leaves the company
- better offer = a rival gives the same for half | the shop opposite adds a phone for free
- moving abroad = the family settles in another country in {month}
  | from {month} the new home is overseas
- bad service = nobody ever called back in {n} weeks | five agents gave five different answers
- death in the family = the line belonged to a late grandfather
  | the widow closes her husband's account

# retail
words: shop store shopping customer purchase product online sale buy
kinds: review product review | mail e-mail to an online shop | chat chat with a shop assistant
  | note store manager's note
things: winter coat | coffee machine | gift voucher | bookshelf | toaster | order confirmation
roles: shop assistant | store manager | buyer | cashier
sites: stockroom | till area | shop window
terms: basket affinity | markdown optimisation | assortment planning | shrinkage rate
  | omnichannel attribution
+ the order was placed on {day} evening
+ the shop in {place} has {n} square metres more now
+ the receipt is still in the bag
axis: the reason for sending goods back ? why the goods are sent back
- wrong size = the sleeves end above the wrists | it is two numbers too large
- defective = it smoked when first plugged in | the switch came off after a day
- not as described = the picture showed oak but this is plastic
  | the page promised blue and grey came
- changed mind = it is fine but no longer wanted | the buyer found another one at home
axis: the customer group ? which customer group is writing
- bargain hunter = only reduced items go into the basket | she compares {n} shops to save a coin
- gift buyer = it must be wrapped for a niece's birthday
  | he does not know the taste of the receiver
- bulk buyer = {n} identical pieces are needed for a canteen | a whole pallet is ordered at once
- collector = only the numbered first series counts | two pieces are still missing from the cabinet

# journalism
words: news newspaper press media article reporter headline
kinds: news newspaper lead | mail letter to the editor | note reporter's notebook entry
  | post comment under a news article
things: front page | interview | photo caption | press release | headline | editorial
roles: reporter | editor | photographer | columnist
sites: newsroom | press gallery | archive
terms: framing effects | source triangulation | agenda setting | editorial gatekeeping
  | hermeneutic context
+ the piece ran on page {n}
+ the paper has been printed in {place} for decades
+ the interview was recorded on {day}
axis: the newspaper section it belongs to ? which newspaper section it belongs to
- politics = the cabinet vote was postponed after the debate
  | two ministers resigned before the election
- business = shares fell after the quarterly figures | the merger makes it the largest brewer
- culture = the premiere ended with ten minutes of applause
  | the gallery opens with {n} unknown sketches
- science = the lab measured the particle twice | researchers found the gene in mice
axis: the form of the piece ? which form the piece has
- interview = one person answers a row of questions | each question stands in bold before the answer
- opinion = the author says plainly what should change | one voice argues for a ban
- obituary = it recalls a life that ended on {day}
  | the painter who died in {place} is remembered
- correction = the earlier figure was mistaken, says the paper
  | yesterday's name should have been spelled otherwise

# local government
words: city council government public citizen municipal politics political town mayor
kinds: mail letter to a town hall | report council protocol | post citizens' forum post
  | call call to a citizens' line
things: building permit | bus stop | playground | parking permit | street lamp | waste bin
roles: mayor | council member | town clerk | planner
sites: council chamber | market square | town hall
terms: subsidiarity principle | participatory budgeting | zoning variance | fiscal equalisation
  | administrative discretion
+ the council meets again on {day}
+ the matter was first raised in {month}
+ about {n} residents signed the list
axis: the municipal office responsible ? which municipal office is responsible
- road works = a deep hole opened before number {n} | the cobbles have come loose at the crossing
- waste collection = the bins have not been emptied since {day}
  | mattresses lie beside the containers
- parks = the old chestnut has lost a large branch | the benches by the pond are broken
- registry office = the couple wants to marry in {month} | the newborn needs a birth certificate
axis: the position taken on the plan ? which position is taken on the plan
- in favour = the plan would bring all that was missing | it should be built, and rather today
- against = the plan must never be carried out | it would ruin the square for good
- undecided = there are good reasons on both sides | more figures are needed before choosing

# nature conservation
words: environment environmental wildlife climate forest ecology conservation species nature pollution
kinds: report ranger's report | post bird watchers' forum post | news environment news item
  | mail letter to a nature reserve
things: nesting box | river bank | camera trap | hiking trail | beaver dam | rare orchid
roles: ranger | biologist | volunteer | warden
sites: wetland | old forest | visitor hut
terms: trophic cascades | habitat fragmentation | metapopulation dynamics
  | eutrophication gradient | phenological mismatch
+ the reserve covers {n} hectares
+ the count took place near {place}
+ the path is closed until {month}
axis: the threat to nature described ? which threat to nature is described
- poaching = snares were hidden along the deer path | shots were heard where hunting is banned
- pollution = oily film covers the pond since {day} | the stream smells of solvents
- invasive species = a foreign crayfish eats the local ones
  | the knotweed from overseas smothers the bank
- habitat loss = the hedge was cleared for a road | the marsh was drained for new houses
axis: the group of animals observed ? which group of animals was observed
- birds = {n} pairs nest on the gravel island | two of them sang from the reeds at dawn
- insects = six legs and wings, it sat on clover | hundreds hummed around the lime blossom
- amphibians = the spawn floats in the shallow pond | they cross the road on wet nights to mate
- mammals = the mother suckled three young in the den | fur and droppings were found at the burrow

# geology
words: rock rocks earthquake volcano mineral mining earth seismic
kinds: note field geologist's note | report survey report | post mineral collectors' forum post
  | news earth science news item
things: drill core | rock sample | seismograph | quarry wall | geological map | thin section
roles: geologist | surveyor | driller | curator
sites: quarry | core store | ridge
terms: isotopic fractionation | tectonic uplift | stratigraphic correlation | metamorphic facies
  | strain partitioning
+ the core was taken at {n} metres
+ the outcrop lies north of {place}
+ the map dates from an earlier survey
axis: the type of rock described ? which type of rock is described
- igneous = crystals grew as the melt cooled | it flowed as lava and then hardened
- sedimentary = shells lie between layers of old sand
  | grains settled on a sea floor and were pressed
- metamorphic = heat and pressure turned shale into slate | the old limestone became marble at depth
axis: the natural hazard concerned ? which natural hazard is concerned
- earthquake = the ground shook for {n} seconds | cups fell when the fault slipped
- landslide = the slope above the road gave way | mud and boulders buried the path
- eruption = ash rose {n} kilometres above the crater | glowing lava reached the vineyard
- tsunami = the sea drew back and came as a wall | the wave reached the second floor

# chemistry
words: chemical laboratory lab molecule reaction compound substance
kinds: note lab note | report safety report | mail e-mail to a reagent supplier
  | post chemists' forum post
things: fume hood | solvent bottle | titration | glass column | spectrum | balance
roles: chemist | lab technician | safety officer | supplier
sites: teaching lab | cold store | weighing room
terms: enantiomeric excess | stoichiometric control | reaction kinetics
  | chromatographic resolution | ligand exchange
+ the batch carries the number {n}
+ the flask stood overnight in the cold store
+ the run was started at {time}
axis: the result of the experiment ? what the result of the experiment was
- success = the pure crystals weighed what theory predicts
  | the product matched the reference at once
- low yield = only {n} milligrams were left at the end
  | most of the material stayed behind in the flask
- contamination = a second substance shows up in the spectrum
  | rust from the clamp had entered the flask
- no reaction = the starting material came back unchanged | even after {n} hours nothing had formed
axis: the laboratory hazard described ? which laboratory hazard is described
- flammable = vapours near a spark could ignite | the ether stood beside the burner
- toxic = breathing it in could poison the staff | a few drops on the skin would be deadly
- corrosive = the acid ate through the glove | the lye has dissolved the tray
- explosive = the dry salt may detonate when scratched | the pressure burst the sealed tube

# genetics
words: gene genes dna biology biological genome cell cells heredity
kinds: note sequencing note | report genetics report | mail letter from a gene bank
  | post biology students' forum post
things: blood sample | gene panel | cell line | family tree | fruit fly strain | sequencing run
roles: geneticist | lab assistant | genetic counsellor | breeder
sites: sequencing lab | cell bank | breeding station
terms: epigenetic silencing | linkage disequilibrium | haplotype phasing | penetrance estimates
  | alternative splicing
+ the sample arrived from {place} on {day}
+ the line has been kept for {n} generations
+ the plate was read twice
axis: the way the trait is inherited ? how the trait is inherited
- dominant = one affected parent is always enough | it appears in every generation on one side
- recessive = two healthy parents had an affected child | it shows only if both copies are altered
- sex-linked = only the sons are affected, through mothers | daughters carry it and sons show it
- not inherited = no relative has it and the copies are normal
  | it came from an infection, not from parents
axis: the organism that is studied ? which organism is studied
- bacterium = the colonies doubled every {n} minutes | single cells without a nucleus grew on agar
- plant = the seedlings with the new copy flower early | the leaves of the altered line stay pale
- mouse = the cages hold {n} litters with the deletion | whiskers and tails were normal in all pups
- human = the volunteers gave saliva and consent | three brothers from one village were tested

# psychology
words: mind mental therapy behaviour behavior emotion psychologist cognitive wellbeing
kinds: note therapist's session note | post self-help forum post | report study summary
  | mail letter to a counselling service
things: sleep diary | group session | questionnaire | breathing exercise | first interview
  | waiting list
roles: therapist | counsellor | researcher | social worker
sites: consulting room | day clinic | quiet room
terms: attachment style | affect regulation | cognitive dissonance | psychometric reliability
  | attentional bias
+ the session lasted {n} minutes
+ the next meeting is on {day}
+ the study began in {place}
axis: the problem that is described ? which problem is described
- anxiety = his heart races before every bus ride
  | she checks the exits and cannot breathe in crowds
- insomnia = he lies awake until {time} every night | she counts the hours until the alarm rings
- grief = the chair of the late husband stays empty | since the funeral she sets two plates
- burnout = after {n} years of overtime nothing is left | the thought of the office makes her cry
axis: the thinking trap shown ? which thinking trap is shown
- black-and-white thinking = one mistake means total failure to him
  | people are either saints or villains to her
- mind reading = he is sure that all colleagues despise him
  | she knows what they think without asking
- catastrophising = a small headache must be a tumour | one late train and the whole career is over
- self-blame = even the rain was her doing, she says | he apologises for what others decided

# music
words: song band concert musical instrument singer melody orchestra
kinds: review concert review | post musicians' forum post | note conductor's rehearsal note
  | mail letter to a record label
things: new album | string quartet | guitar solo | sheet music | tuning peg | choir rehearsal
roles: conductor | violinist | sound engineer | singer
sites: concert hall | rehearsal room | studio
terms: harmonic rhythm | timbral contrast | contrapuntal texture | psychoacoustic masking
  | motivic development
+ the recording was made in {place}
+ the programme lasts {n} minutes
+ the hall reopened in {month}
axis: the musical genre described ? which musical genre is described
- jazz = the saxophone improvised over a walking bass | each player took a swinging solo in turn
- opera = the soprano died on stage in the last aria | singers in costume filled the royal stage
- hip-hop = the verses were spoken fast over a beat | he rapped {n} lines without a breath
- folk = fiddle and accordion played an old village dance
  | the ballad has been passed on for generations
axis: what the listener remarks on ? what the listener remarks on
- performance = the pianist missed two entries but phrased warmly
  | her bow never shook in the slow part
- acoustics = the echo swallowed every fast passage | even whispers reached the last row
- lyrics = the second verse rhymes and tells of exile | the words were trite in every chorus
- composition = the theme returns upside down in the finale
  | the piece modulates too often for its length
"""
